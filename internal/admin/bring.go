package admin

import "time"

// MoveBringRequest brings an account from another server to this box, where it moves to. Nothing of it is stored but what the account holds: the old
// password stays in memory, and ends with the migration.
type MoveBringRequest struct {
	Old         string `json:"old"`
	OldPassword string `json:"old_password"`
	// New is an address of this box; empty: the same name at the main domain. The account is made where there is none; one that is there has to be
	// empty.
	New string `json:"new,omitempty"`
	// Password of an account that is made; empty: one is made up and returned.
	Password string `json:"password,omitempty"`
	// Server is host:port of the old server where the DNS does not tell; DirectTLS says that TLS begins with the first byte there.
	Server    string `json:"server,omitempty"`
	DirectTLS bool   `json:"direct_tls,omitempty"`
	// DryRun logs in, counts the contacts and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Unverified starts the move also where the old server can not hold the statement that proves it.
	Unverified bool `json:"unverified,omitempty"`
}

// MoveLeaveRequest announces that an account of this box moves to another server. With the password there, the box also builds up the new account
// and tells the contacts from it, as far as that server lets a client do so.
type MoveLeaveRequest struct {
	Account   string `json:"account"`
	New       string `json:"new"`
	Password  string `json:"password,omitempty"` // at the new address; stays in memory
	Server    string `json:"server,omitempty"`
	DirectTLS bool   `json:"direct_tls,omitempty"`
	// DryRun tells whether it could begin, and changes nothing; with a password it logs in at the new server.
	DryRun bool `json:"dry_run,omitempty"`
	// Wait is how many seconds the new account stays connected for contacts who have to ask first, where its server can not approve them in advance.
	Wait int `json:"wait,omitempty"`
}

// MigrationRequest names a migration by its new address.
type MigrationRequest struct {
	New string `json:"new"`
}

// MigrationResponse holds a migration as it is.
type MigrationResponse struct {
	Migration Migration `json:"migration"`
}

// Migration is what goes on between this box and another server for one account. It goes on when nobody looks. A restart of the box interrupts it, because its
// password is not stored: asking for it again goes on.
type Migration struct {
	Kind  string         `json:"kind"` // bring, leave
	Old   string         `json:"old"`
	New   string         `json:"new"`
	State MigrationState `json:"state"`
	// Part is what is being done, in words.
	Part   string          `json:"part,omitempty"`
	Counts MigrationCounts `json:"counts"`
	// Password was made up, and is shown only here.
	Password string          `json:"password,omitempty"`
	Losses   []MigrationLoss `json:"losses,omitempty"`
	// Lacks tells what the old server can not do for the statement that proves the move.
	Lacks []string `json:"lacks,omitempty"`
	// Error is why it failed, or was interrupted.
	Error *Error    `json:"error,omitempty"`
	Began time.Time `json:"began"`
	// Before is when an account that is brought came with its contents, where that was in an earlier attempt: they come once. Of one that leaves
	// without the password there, it is when that began, where it had begun already.
	Before time.Time `json:"before,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
}

// MigrationState is how far a migration is.
type MigrationState string

// The states of a migration.
const (
	MigrationWaiting    MigrationState = "waiting" // for its turn: only some go at the same time
	MigrationConnecting MigrationState = "connecting"
	MigrationRunning    MigrationState = "running"
	// All is done but for contacts whose servers can not be reached, who are told again, or, leaving, who are of this box, and may leave it in the next hour.
	MigrationRepeating MigrationState = "repeating"
	MigrationDone      MigrationState = "done"
	MigrationFailed    MigrationState = "failed"
	// MigrationInterrupted: the box was restarted. Error.Next tells how it goes on.
	MigrationInterrupted MigrationState = "interrupted"
)

// Over tells that nothing more happens.
func (s MigrationState) Over() bool {
	return s == MigrationDone || s == MigrationFailed || s == MigrationInterrupted
}

// MigrationCounts tell what came along.
type MigrationCounts struct {
	Contacts int   `json:"contacts"`
	Requests int   `json:"requests"`
	Waiting  int   `json:"waiting"`
	Nodes    int   `json:"nodes"`
	Items    int   `json:"items"`
	Private  int   `json:"private"`
	Blocked  int   `json:"blocked"`
	VCard    bool  `json:"vcard,omitempty"`
	Archived int   `json:"archived"`
	Bytes    int64 `json:"bytes"` // of archived messages
	Told     int   `json:"told"`  // contacts, when leaving
	// Unreached contacts: nothing shows that their servers got the request of the new address, or, bringing, the message of the old one.
	Unreached int `json:"unreached,omitempty"`
}

// MigrationLoss is something that did not come along.
type MigrationLoss struct {
	What  string `json:"what"`
	Why   string `json:"why"`
	Count int    `json:"count"`
}
