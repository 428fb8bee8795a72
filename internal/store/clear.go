package store

// keyed is a table of any records.
type keyed interface {
	clearAccount(tx *Tx, account string)
}

func (t Table[T]) clearAccount(tx *Tx, account string) {
	t.Delete(tx, account)
	t.Clear(tx, account)
}

// accountTables hold what dies with an account. Not among them: Accounts and Moves, which a closed account keeps, and Outbox, whose stanzas the
// account's contacts are still to get.
var accountTables = []keyed{
	Roster, RosterV, Pending, Private, VCards, Blocks, PEPNodes, LastSeen, Claims, ArchivePrefs, SMSessions, Pushes, PushContents, MoveJobs, MoveContacts,
}

// ClearAccount deletes all that is kept of an account but its record and its move. What it has in the log can not be
// seen at once, and is freed by PurgeLog.
func ClearAccount(tx *Tx, account string) {
	for _, t := range accountTables {
		t.clearAccount(tx, account)
	}
	clearLog(tx, account)
}
