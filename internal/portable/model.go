// Package portable takes accounts out of a box and into it, in the format of XEP-0227 (Portable Import/Export Format for XMPP-IM Servers).
//
// Everything between the parts is a Sink: the reader of files and the client at somebody's old server feed one, the importer into the store and the
// writer of files are one.
package portable

import (
	"time"

	"pibox/internal/store"
)

// Namespaces of XEP-0227 and of what pibox adds to it.
const (
	NSPortable = "urn:xmpp:pie:0"
	NSScram    = "urn:xmpp:pie:0#scram"
	NSArchive  = "urn:xmpp:pie:0#mam"
	// NSOwn qualifies what the format has no place for and only a pibox reads.
	NSOwn = "urn:pibox:portable:0"
)

// Sink takes the contents of accounts, one account after the other: User first, then everything else in any order, then End. Each call is bounded by one
// stanza or item; the bytes are the callee's only during the call. An error ends the transfer, and nothing of the account that it came in stays.
//
// Elements stand alone: they declare every namespace that they use, but for that of a stanza, which may be without one and is then in jabber:client.
type Sink interface {
	// User begins an account.
	User(u User) error
	// Credentials for one mechanism of SCRAM; more than one call has more than one mechanism.
	Credentials(c Credentials) error
	// Own is what only a pibox keeps of an account.
	Own(o Own) error
	Roster(item RosterItem) error
	// Pending is a subscription request that awaits an answer, whole. A delay of the account's domain (XEP-0203) tells when it came.
	Pending(stanza []byte) error
	// Offline is a message that no device has got, oldest first, with its delay. One that is in the archive, too, has its id there as stanza-id.
	Offline(stanza []byte) error
	// Private is one element of private XML storage (XEP-0049).
	Private(element []byte) error
	// VCard is a vCard element in vcard-temp (XEP-0054).
	VCard(element []byte) error
	// Node is a node of personal eventing. Its items may come before it, and it may come in parts: its configuration, its affiliations, its
	// subscriptions.
	Node(n Node) error
	// Item is an item of a node, oldest first.
	Item(node string, it Item) error
	// Archived is an entry of the archive, oldest first.
	Archived(m Archived) error
	// ArchivePrefs is a prefs element in urn:xmpp:mam:2.
	ArchivePrefs(element []byte) error
	// Blocked is an address of the block list (XEP-0191); the same may come twice.
	Blocked(jid string) error
	// Unknown tells of what the source has and can not be given on.
	Unknown(what Loss) error
	// End ends the account, which is whole only now.
	End() error
}

// User is an account's name. Password is empty where it is not known.
type User struct {
	Name, Domain string // localpart and domain
	Password     string
}

// Mechanisms of SCRAM whose credentials pibox keeps.
const (
	ScramSHA1   = "SCRAM-SHA-1"
	ScramSHA256 = "SCRAM-SHA-256"
)

// Credentials are those of one mechanism (XEP-0227 §4.3).
type Credentials struct {
	Mechanism string // without -PLUS
	store.Credentials
}

// Own is what the format has no place for. It is imported where the file's account keeps its address.
type Own struct {
	Created    time.Time
	Admin      bool
	Restricted bool
	OneTime    bool
	// Last is when and how the last session ended; zero where there was none.
	Last store.Last
	// Push is what push services may be told.
	Push store.PushContent
}

// RosterItem is a contact as the roster has it (RFC 6121 §2.1.2).
type RosterItem struct {
	JID      string
	Name     string
	Groups   []string
	Sub      store.Subscription
	Ask      bool
	Approved bool
}

// Node is a node of personal eventing.
type Node struct {
	Name    string
	Created time.Time // zero where it is not known
	// Config holds the fields of the node's configuration, by their names without "pubsub#": all that the source told. nil: this is another part.
	Config map[string][]string
	// Affiliations by bare JID (owner is the account itself and not among them), Subscriptions by JID.
	Affiliations  map[string]string
	Subscriptions map[string]string
}

// Item is one published item.
type Item struct {
	ID        string
	At        time.Time // zero where it is not known
	Publisher string    // full JID; empty where it is not known
	Payload   []byte
}

// Archived is an entry of an archive (XEP-0313).
type Archived struct {
	ID     string // in that archive
	At     time.Time
	Stanza []byte
}

// Loss is something that did not come along. Equal ones are counted by who reports them.
type Loss struct {
	What string // in words, or name and namespace of an element
	Why  string
}
