package store

import (
	"encoding/json"
	"time"
)

// Sessions at other servers for accounts that come or go (docs/moved.md, "bring" and "leaving"). Their passwords are in memory alone, so a restart
// ends them: the mark tells what a person has to begin again. The marks lie among the settings, as those of imports do.
var migrationMarks = Table[MigrationMark]{"settings"} // migrationKey, new bare JID

const migrationKey = "migration"

// MigrationMark is there from the first login until the session has done all that it is for.
type MigrationMark struct {
	Kind   string    `json:"kind"` // bring, leave
	Old    string    `json:"old"`  // bare JIDs
	New    string    `json:"new"`
	Server string    `json:"server,omitempty"` // host:port, where one was given
	Direct bool      `json:"direct,omitempty"` // TLS from the first byte there
	Began  time.Time `json:"began"`
	// Made: bringing made the account here; whoever began it was not told its password yet.
	Made bool `json:"made,omitempty"`
	// Failed is why it ended before, in words; empty where the process did.
	Failed string `json:"failed,omitempty"`
	// Report is what came along so far, as its owner puts it.
	Report json.RawMessage `json:"report,omitempty"`
}

// Migrating tells of the session for a new address that is not through.
func Migrating(tx *Tx, new string) (MigrationMark, bool) {
	return migrationMarks.Get(tx, Key(migrationKey, new))
}

// AllMigrating gives all of them, by their new addresses.
func AllMigrating(tx *Tx) (all []MigrationMark) {
	for _, m := range migrationMarks.All(tx, migrationKey) {
		all = append(all, m)
	}
	return all
}

// MarkMigration stores what is known of one.
func MarkMigration(tx *Tx, m MigrationMark) { migrationMarks.Put(tx, Key(migrationKey, m.New), m) }

// EndMigration forgets one.
func EndMigration(tx *Tx, new string) { migrationMarks.Delete(tx, Key(migrationKey, new)) }
