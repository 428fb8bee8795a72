package store

import (
	"encoding/json"
	"time"
)

// The tables of schema 1. Keys are Key(...) of the parts named behind each; "account" is a bare JID.
var (
	Settings = Table[json.RawMessage]{"settings"}    // name: values the box makes once (domains, server secret)
	Accounts = Table[Account]{"accounts"}            // account
	Roster   = Table[RosterItem]{"roster"}           // account, contact
	RosterV  = Table[RosterVersion]{"rosterversion"} // account
	Pending  = Table[PendingIn]{"pending"}           // account, contact
	Private  = Table[PrivateXML]{"private"}          // account, namespace, name
	VCards   = Table[[]byte]{"vcard"}                // account
	Blocks   = Table[Block]{"blocks"}                // account, JID
	LastSeen = Table[Last]{"lastseen"}               // account
	Outbox   = Table[OutboxEntry]{"outbox"}          // sequence
	Moves    = Table[Move]{"moves"}                  // account: its own move away (old home)
	Claims   = Table[Claim]{"claims"}                // account, new JID: a move of a contact that is being verified
)

var schema1 = []string{
	metaTable.name, Settings.name, Accounts.name, Roster.name, RosterV.name, Pending.name, offline.name, Private.name,
	VCards.name, Blocks.name, PEPNodes.name, LastSeen.name, Outbox.name, Moves.name, Claims.name,
}

// Credentials of SCRAM for one hash (RFC 5802 §3): the password itself is never stored.
type Credentials struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	StoredKey  []byte `json:"storedKey"`
	ServerKey  []byte `json:"serverKey"`
}

// Account of a member of the family.
type Account struct {
	Created time.Time   `json:"created"`
	Admin   bool        `json:"admin,omitempty"`
	SHA1    Credentials `json:"sha1"`
	SHA256  Credentials `json:"sha256"`
	// Restricted accounts may not announce a move.
	Restricted bool `json:"restricted,omitempty"`
	// OneTime: the password was made by the box and shown once; it is to be changed.
	OneTime bool `json:"oneTime,omitempty"`
	// Fresh: nobody has logged in yet with the password that the box offers on its card. A one-time password works for Grace after that, until Until;
	// with neither, for ever.
	Fresh bool          `json:"fresh,omitempty"`
	Grace time.Duration `json:"grace,omitempty"`
	Until *time.Time    `json:"until,omitempty"`
	// Closed accounts let nobody log in and their localpart is never given again. Where the account moved, Moves tells where to.
	Closed *time.Time `json:"closed,omitempty"`
}

// Subscription is the state of a roster item (RFC 6121 §2.1.2.5).
type Subscription string

// The states of a subscription.
const (
	SubNone Subscription = "none"
	SubTo   Subscription = "to"
	SubFrom Subscription = "from"
	SubBoth Subscription = "both"
)

// To tells that the user sees the contact's presence.
func (s Subscription) To() bool { return s == SubTo || s == SubBoth }

// From tells that the contact sees the user's presence.
func (s Subscription) From() bool { return s == SubFrom || s == SubBoth }

// With gives the state with both directions set as told.
func With(to, from bool) Subscription {
	switch {
	case to && from:
		return SubBoth
	case to:
		return SubTo
	case from:
		return SubFrom
	}
	return SubNone
}

// SettingEpoch names the setting, a string, that changes when an older backup is restored: versions that clients were given since the
// backup are then known to be of a lost time.
const SettingEpoch = "epoch"

// RosterVersion is where a roster's versions stand (RFC 6121 §2.6).
type RosterVersion struct {
	Version uint64 `json:"version"`
	// Floor: changes are known only since this version; items that were removed before have left no trace.
	Floor uint64 `json:"floor,omitempty"`
}

// RosterItem is one contact (RFC 6121 §2.1.2). Who has only a request pending in has no item (§3.1.3).
type RosterItem struct {
	Name     string       `json:"name,omitempty"`
	Groups   []string     `json:"groups,omitempty"`
	Sub      Subscription `json:"sub"`
	Ask      bool         `json:"ask,omitempty"`      // pending out
	Approved bool         `json:"approved,omitempty"` // pre-approved, RFC 6121 §3.4
	Version  uint64       `json:"version,omitempty"`  // of the roster when the item last changed
	Removed  bool         `json:"removed,omitempty"`  // a tombstone, for roster versioning
}

// PendingIn is a subscription request that awaits the user's answer, whole (RFC 6121 §3.1.3).
type PendingIn struct {
	Stanza   []byte    `json:"stanza"`
	Received time.Time `json:"received"`
	// Verifying: the request claims a move that is being verified; it is not shown to clients yet.
	Verifying bool `json:"verifying,omitempty"`
}

// PrivateXML is one element of XEP-0049.
type PrivateXML struct {
	XML []byte `json:"xml"`
}

// Block is an entry of the block list (XEP-0191).
type Block struct {
	Since time.Time `json:"since"`
}

// Last is when and how an account's last session ended (XEP-0012).
type Last struct {
	At     time.Time `json:"at"`
	Status string    `json:"status,omitempty"`
}

// OutboxEntry is a stanza to another server that is sent again until that server is known to have it (docs/moved.md, row 12).
type OutboxEntry struct {
	Stanza   []byte    `json:"stanza"`
	From     string    `json:"from"`
	To       string    `json:"to"`
	Queued   time.Time `json:"queued"`
	Attempts int       `json:"attempts,omitempty"`
}

// Move is an account's own move away: the moved statement's target and who may read it (docs/moved.md, old home).
type Move struct {
	To        string    `json:"to"` // the new bare JID
	Published time.Time `json:"published"`
	// Readers: bare JIDs of the contacts in state to, from or both at publication, kept after closing.
	Readers []string `json:"readers,omitempty"`
	// Left: contacts that revoked their subscription since, as progress.
	Left map[string]time.Time `json:"left,omitempty"`
	// Gone: the address that a contact, by his bare JID, answered with in a <gone/> error; that one reads the statement, too.
	Gone map[string]string `json:"gone,omitempty"`
	// Visible: when the statement is served, later than Published where a delay with cancel is configured.
	Visible time.Time `json:"visible"`
	// Closed: the account is closed and answers its readers with its forwarding address.
	Closed bool `json:"closed,omitempty"`
}

// Claim is a move of a contact that is being verified. The request itself stands in Pending.
type Claim struct {
	Old      string    `json:"old"`
	Received time.Time `json:"received"`
}
