package store

import (
	"strings"
	"time"
)

// Accounts that are being imported have no record in Accounts until they are whole: to everybody else they do not exist. Their marks lie among the
// settings, whose names have no NUL.
var (
	importMarks = Table[ImportMark]{"settings"} // importKey, account
	importSpool = Table[Spooled]{"settings"}    // spoolKey, account, sequence
)

const (
	importKey = "import"
	spoolKey  = "importspool"
)

// ImportMark says that an account is being imported.
type ImportMark struct {
	ID    string    `json:"id"` // of the import
	Began time.Time `json:"began"`
	// Old is the record of the empty account that was there before; nil where there was none.
	Old *Account `json:"old,omitempty"`
}

// Spooled is a message that waits for its place among the others of an import.
type Spooled struct {
	At     time.Time `json:"at"`
	Stanza []byte    `json:"stanza"`
}

// Importing tells whether an account is being imported.
func Importing(tx *Tx, account string) (ImportMark, bool) {
	return importMarks.Get(tx, Key(importKey, account))
}

// BeginImport takes an account out of the box, with all that is left under its name, and marks it.
func BeginImport(tx *Tx, account string, mark ImportMark) {
	if old, ok := Accounts.Get(tx, account); ok {
		mark.Old = &old
	}
	ClearAccount(tx, account)
	Accounts.Delete(tx, account)
	importMarks.Put(tx, Key(importKey, account), mark)
}

// EndImport takes the mark away and puts an account in its place.
func EndImport(tx *Tx, account string, acc Account) {
	importSpool.Clear(tx, spoolKey, account)
	importMarks.Delete(tx, Key(importKey, account))
	Accounts.Put(tx, account, acc)
}

// DropImport ends an import that is not whole: the account is as it was before, or is not there.
func DropImport(tx *Tx, account string) {
	mark, ok := Importing(tx, account)
	if !ok {
		return
	}
	ClearAccount(tx, account)
	importSpool.Clear(tx, spoolKey, account)
	importMarks.Delete(tx, Key(importKey, account))
	if mark.Old != nil {
		Accounts.Put(tx, account, *mark.Old)
	}
}

// DropImports ends all imports that a stop or a power cut interrupted.
func DropImports(tx *Tx) (accounts []string) {
	for key := range importMarks.All(tx, importKey) {
		accounts = append(accounts, strings.TrimPrefix(key, Key(importKey, "")))
	}
	for _, account := range accounts {
		DropImport(tx, account)
	}
	return accounts
}

// Spool puts a message aside under a number.
func Spool(tx *Tx, account string, n uint64, m Spooled) {
	importSpool.Put(tx, SeqKey(n, spoolKey, account), m)
}

// Spooling reads it.
func Spooling(tx *Tx, account string, n uint64) (m Spooled, ok bool) {
	return importSpool.Get(tx, SeqKey(n, spoolKey, account))
}

// Unspool takes it out.
func Unspool(tx *Tx, account string, n uint64) (m Spooled, ok bool) {
	if m, ok = Spooling(tx, account, n); ok {
		importSpool.Delete(tx, SeqKey(n, spoolKey, account))
	}
	return m, ok
}
