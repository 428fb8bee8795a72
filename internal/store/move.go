package store

import (
	"encoding/json"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The new home's part of a move (docs/moved.md, "The new home").
var (
	MoveJobs     = Table[MoveJob]{"movejobs"}         // new bare JID
	MoveContacts = Table[MoveContact]{"movecontacts"} // new bare JID, contact's bare JID
)

var schema3 = []string{MoveJobs.name, MoveContacts.name}

// toSchema3 brings the jobs of the new home.
func toSchema3(b *bolt.Tx) error { return createTables(b, schema3) }

// MoveState is how far a job is.
type MoveState string

// The states of a job.
const (
	MovePlanned   MoveState = "planned"   // nothing is sent before somebody starts it
	MoveRunning   MoveState = "running"   // contacts are told, or have not answered yet
	MoveCancelled MoveState = "cancelled" // nobody else is told; it may be started again
	MoveUndone    MoveState = "undone"    // taken back from those who had not followed
	MoveDone      MoveState = "done"      // nothing is open with any contact
)

// MoveJob is one account's move to a new address, as its new home does it.
type MoveJob struct {
	Old string `json:"old"` // bare JID
	New string `json:"new"` // bare JID, the key
	// Family names a move of several accounts by their old and new domain, with a space between; empty for a single one.
	Family string `json:"family,omitempty"`
	// Via: earlier addresses of the account, the oldest first, whose contacts have not all followed (A→B→C).
	Via   []string  `json:"via,omitempty"`
	State MoveState `json:"state"`
	// Announced tells since when the old home serves the statement, as far as is known: published by the job or over a session there, or read
	// there. Zero: nobody knows. It may lie ahead.
	Announced time.Time `json:"announced,omitzero"`
	// Unverified: started although it is not known that the old home serves the statement.
	Unverified bool `json:"unverified,omitempty"`
	// Outside: the new home is another server; the box only follows the progress.
	Outside bool `json:"outside,omitempty"`
	// ThenClose: the old account, which lives here, is closed as soon as it has forwarded for long enough.
	ThenClose bool `json:"thenClose,omitempty"`
	// Rooms: services of rooms that moved with it, new by old domain.
	Rooms map[string]string `json:"rooms,omitempty"`
	// ArchiveStays: the old account's archive could not become part of the new one's (LogsMerge).
	ArchiveStays bool `json:"archiveStays,omitempty"`
	// Steps that hang on the job and are done, by name.
	Steps   map[string]time.Time `json:"steps,omitempty"`
	Created time.Time            `json:"created"`
	Started time.Time            `json:"started,omitzero"`
	Ended   time.Time            `json:"ended,omitzero"`
}

// MoveStep is how far a job is with one contact.
type MoveStep string

// The steps of a contact.
const (
	StepWaiting  MoveStep = ""         // nothing was done yet
	StepAsked    MoveStep = "asked"    // a subscription request went out, durably
	StepTold     MoveStep = "told"     // a message went out; whether he adds the new address is up to him
	StepToTell   MoveStep = "to tell"  // the old address, which is not ours, is to tell him
	StepKept     MoveStep = "kept"     // the contact came along, and there was nothing to ask or tell
	StepFollowed MoveStep = "followed" // the contact is what he was, or as much of it as he approved
	StepRefused  MoveStep = "refused"  // he, or his server, said no
	StepFailed   MoveStep = "failed"   // he can not be reached; Failure says why
	StepMoved    MoveStep = "moved"    // he moved himself; Address is where he is asked now
	StepDropped  MoveStep = "dropped"  // the owner removed him from the new contact list, or unsubscribed
)

// MoveContact is one contact in the old roster.
type MoveContact struct {
	// As in the old roster.
	Sub      Subscription `json:"sub"`
	Ask      bool         `json:"ask,omitempty"`
	Approved bool         `json:"approved,omitempty"`
	Name     string       `json:"name,omitempty"`
	Groups   []string     `json:"groups,omitempty"`
	// Pending is a subscription request of the contact that waited there, whole.
	Pending []byte `json:"pending,omitempty"`
	// Member is the new address of a contact who moves in the same family move.
	Member string `json:"member,omitempty"`
	// Claim is the old address that he knows; empty: the job's. Another one in a chain, where he did not follow before.
	Claim string `json:"claim,omitempty"`

	Step    MoveStep  `json:"step,omitempty"`
	Since   time.Time `json:"since,omitzero"` // of the step
	Failure string    `json:"failure,omitempty"`
	Address string    `json:"address,omitempty"` // with StepMoved
	// From is the contact's former address, where this one took its place.
	From string `json:"from,omitempty"`
	// Unsure: the job was cancelled before the contact's server was known to have the request. Should it have it, its answer counts.
	Unsure bool `json:"unsure,omitempty"`
	// Unsent: nothing of that request had left the box.
	Unsent bool `json:"unsent,omitempty"`
	// Entered: the contact is in the roster, although he waits for his turn to be asked. At another server: a session there has put him on its list.
	Entered bool `json:"entered,omitempty"`
	// ToTell: beside the request, the old address, which is not ours, is to tell him in a message; see StepToTell.
	ToTell bool `json:"toTell,omitempty"`
	// Made: the job made the roster item. PreApproved, Carried: it pre-approved the contact, and carried his request over. Told: a message
	// from the old address went out. None of that is done twice.
	// Of a move to another server it is noted before it is done there, by a session of the box; Asks: also the request is the move's.
	// Listed: the list there had him as one whom the owner sees before he was asked, which alone shows nothing.
	Asks        bool `json:"asks,omitempty"`
	Listed      bool `json:"listed,omitempty"`
	Made        bool `json:"made,omitempty"`
	PreApproved bool `json:"preApproved,omitempty"`
	Carried     bool `json:"carried,omitempty"`
	Told        bool `json:"told,omitempty"`
}

// settingHeld names the setting, a boolean, of a box that was restored from a backup and does not know yet that it is the only one of its kind.
const settingHeld = "held"

// Held tells whether the box was restored and its owner has not confirmed yet that the old one is gone: it tells other servers nothing that it
// stored before, and does no move job.
func Held(tx *Tx) (held bool) {
	raw, ok := Settings.Get(tx, settingHeld)
	return ok && json.Unmarshal(raw, &held) == nil && held
}

// SetHeld sets what Held tells. Moved.Resume goes on after it is unset.
func SetHeld(tx *Tx, held bool) {
	if !held {
		Settings.Delete(tx, settingHeld)
		return
	}
	Settings.Put(tx, settingHeld, json.RawMessage("true"))
}
