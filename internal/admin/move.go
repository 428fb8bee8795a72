package admin

import "time"

// MovePlanRequest asks what a move would do: from an account of this box to another address of it, or the job that is planned for New. With domains
// instead of addresses it is a whole family's.
type MovePlanRequest struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// MovePlanResponse holds a plan for each account.
type MovePlanResponse struct {
	Plans []MovePlan `json:"plans"`
	// Staying are the accounts of a family that do not move, and why.
	Staying []MoveStaying `json:"staying,omitempty"`
}

// MovePlan is what a move would do.
type MovePlan struct {
	Old       string `json:"old"`
	New       string `json:"new"`
	Exists    bool   `json:"exists,omitempty"` // there is an account at the new address already
	Announced bool   `json:"announced"`        // contacts' servers can verify it, or will be able to
	// Outside: the new address is at another server, which asks the contacts; what is told of them is as this box sees them.
	Outside bool `json:"outside,omitempty"`
	// ArchiveStays: the messages stay in the old account, as those of the new one are older, in part, than some that were imported there.
	ArchiveStays bool              `json:"archive_stays,omitempty"`
	Contacts     []MovePlanContact `json:"contacts"`
}

// MovePlanContact is one contact in a plan.
type MovePlanContact struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"`
	Was     string `json:"subscription"` // in the old contact list; empty: only a request of his waits there
	// Prospect: follows (unasked), approves (has to), adds (is told by a message), unreachable (now), moved (too), kept (nothing is asked).
	Prospect string `json:"prospect"`
	Why      string `json:"why"`
	Request  bool   `json:"request,omitempty"` // his request, which waits, comes along
}

// MoveStaying is an account that does not move.
type MoveStaying struct {
	Address string `json:"address"`
	Why     string `json:"why"`
}

// MoveStartRequest starts a move, or goes on with one that was cancelled.
type MoveStartRequest struct {
	Old string `json:"old"`
	New string `json:"new"`
	// Unverified starts it although the old address, which is elsewhere, is not known to announce it.
	Unverified bool `json:"unverified,omitempty"`
	// ThenClose closes the old account, of this box, when it has forwarded for long enough.
	ThenClose bool `json:"then_close,omitempty"`
}

// MoveStartResponse holds the move as it began.
type MoveStartResponse struct {
	Move Move `json:"move"`
}

// MoveFamilyRequest moves all accounts of a domain of this box to another one.
type MoveFamilyRequest struct {
	OldDomain string `json:"old_domain"`
	NewDomain string `json:"new_domain"`
	Merge     bool   `json:"merge,omitempty"` // also into accounts that are there already
	ThenClose bool   `json:"then_close,omitempty"`
}

// MoveFamilyResponse holds the moves as they began.
type MoveFamilyResponse struct {
	Moves   []Move        `json:"moves"`
	Staying []MoveStaying `json:"staying,omitempty"`
}

// MoveStatusRequest asks how moves go: that to New, those of a family to the domain New, or all where it is empty.
type MoveStatusRequest struct {
	New string `json:"new,omitempty"`
}

// MoveStatusResponse holds them in the order of their new addresses.
type MoveStatusResponse struct {
	Moves []Move `json:"moves"`
}

// Move is one account's move.
type Move struct {
	Old    string   `json:"old"`
	New    string   `json:"new"`
	Via    []string `json:"via,omitempty"`    // earlier addresses whose contacts are told too
	Family string   `json:"family,omitempty"` // old and new domain
	State  string   `json:"state"`            // planned, running, cancelled, undone, done
	// Held: nothing is sent before the owner of a restored box confirms that the old one is gone.
	Held       bool      `json:"held,omitempty"`
	Announced  time.Time `json:"announced,omitzero"`
	Unverified bool      `json:"unverified,omitempty"`
	Outside    bool      `json:"outside,omitempty"` // to another server
	Created    time.Time `json:"created"`
	Started    time.Time `json:"started,omitzero"`
	Ended      time.Time `json:"ended,omitzero"`
	// ForwardsUntil is when the old account, of this box, may be closed; Closed that it is. ThenClose: it is closed then by itself.
	ForwardsUntil time.Time `json:"forwards_until,omitzero"`
	Closed        bool      `json:"closed,omitempty"`
	ThenClose     bool      `json:"then_close,omitempty"`
	ArchiveStays  bool      `json:"archive_stays,omitempty"` // in the old account, until that is closed
	// Session is what goes on at the other server, or did not come to its end there: an account that is brought, or leaves. A move of which only that is
	// known, because its contacts did not come yet, is planned.
	Session  *Migration    `json:"session,omitempty"`
	Contacts []MoveContact `json:"contacts"`
	// Before is when it began, where a request to start it found that it had.
	Before time.Time `json:"before,omitzero"`
}

// MoveContact is where one contact stands.
type MoveContact struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"`
	Was     string `json:"was"` // subscription in the old contact list
	Now     string `json:"now"` // and in the new one
	// State: waiting, sending, unreachable, verifying, asked, told, to tell, kept, followed, refused, failed, moved, dropped.
	State  string    `json:"state"`
	Since  time.Time `json:"since,omitzero"`
	Detail string    `json:"detail,omitempty"`
}

// MoveCancelRequest stops a move: nobody else is told.
type MoveCancelRequest struct {
	New string `json:"new"`
}

// MoveCancelResponse tells who was reached.
type MoveCancelResponse struct {
	Stopped []MoveStopped `json:"stopped"`
}

// MoveUndoRequest takes a move back from who has not followed: to an address, or a family's to a domain.
type MoveUndoRequest struct {
	New string `json:"new"`
	// Password, of a move to another server, is that of the new account: what the move did there is taken back as well. It stays in memory.
	Password  string `json:"password,omitempty"`
	Server    string `json:"server,omitempty"`
	DirectTLS bool   `json:"direct_tls,omitempty"`
}

// MoveUndoResponse tells what was taken back and what stays.
type MoveUndoResponse struct {
	Undone []MoveStopped `json:"undone"`
}

// MoveStopped is what became of the contacts of a move that was cancelled or undone.
type MoveStopped struct {
	Old      string   `json:"old"`
	New      string   `json:"new"`
	Followed []string `json:"followed"` // they hold the new address: that stays
	Asked    []string `json:"asked"`    // cancel: they were asked, and may still answer
	Stopped  []string `json:"stopped"`  // they are not told, or it was taken back
	// Statement at the old address: retracted, stays, or elsewhere (where the old server is to be told).
	Statement string `json:"statement"`
	// There, of an undone move to another server: contacts whom the new account may have on its list, and have asked; its owner removes them there.
	There []string `json:"there,omitempty"`
	// TakenThere, where the password was given: from whom that was taken back. There then are those who follow the new address, or whom its server keeps.
	TakenThere []string `json:"taken_there,omitempty"`
	// Unnoted: an earlier version told these contacts (There), and did not note what it did at the new account. Nothing was taken back there.
	Unnoted bool `json:"unnoted,omitempty"`
}

// MoveCloseRequest closes an old account of this box, or those of a family at the domain Old: only the forwarding address is left.
type MoveCloseRequest struct {
	Old string `json:"old"`
	// Now closes it also where it has not forwarded for long enough.
	Now bool `json:"now,omitempty"`
	// DropMessages closes it also where its messages are in no other archive.
	DropMessages bool `json:"drop_messages,omitempty"`
}

// MoveCloseResponse tells what was closed.
type MoveCloseResponse struct {
	Closed []MoveClosed `json:"closed"`
}

// MoveClosed is one account that was closed.
type MoveClosed struct {
	Address string `json:"address"`
	MovedTo string `json:"moved_to"`
	Ended   int    `json:"ended"` // sessions that were ended
}
