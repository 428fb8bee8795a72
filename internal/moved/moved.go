// Package moved is Moved 2.0 (XEP-0283 v0.2.0): what pibox exists for.
//
// It plays the contact's home (verify.go, effect.go: another person's move is verified and followed by the server, with nobody
// online) and the old home (oldhome.go: the moved statement, who may read it, the forwarding address of a closed account). The new home,
// which sends the notifications, hangs on the same parts later. docs/moved.md holds the rules where the specification
// is silent; "row n" in comments is the row of its table of the contact's home.
//
// It states the narrow interfaces that it needs of other features and imports none.
package moved

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// NS is the namespace of Moved 2.0 and the name of the PEP node that holds a moved statement.
const NS = "urn:xmpp:moved:1"

const nsPubSub = "http://jabber.org/protocol/pubsub"

// Roster is what Moved needs of the roster feature; all inside a transaction.
type Roster interface {
	Item(tx *store.Tx, account, contact xmpp.JID) (store.RosterItem, bool)
	// Put writes an item and queues the roster push to the interested resources.
	Put(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, item store.RosterItem)
	// Fits tells whether the roster has room for an item; its error says why not.
	Fits(tx *store.Tx, account, contact xmpp.JID, item store.RosterItem) error
	// CanKeep tells whether a subscription request can be kept until it is answered; its error is what the sender is to be told.
	CanKeep(tx *store.Tx, st *xmpp.Stanza) error
	// Approve lets a contact see the account's presence: now where his request waits, else when he asks.
	Approve(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) error
	// Remove removes an item with a push, and tells the contact what ends by it.
	Remove(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID)
	// Forget ends a request that awaits the account's answer; nobody is told.
	Forget(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID)
	// Deny denies a request that awaits the account's answer, and tells the contact; without one it does nothing.
	Deny(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID)
	// InboundRequest does what RFC 6121 §3.1.3 does with a subscription request.
	InboundRequest(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error
}

// Presence is what Moved needs of the presence feature; both are effects.
type Presence interface {
	// Announce sends the presence of each available resource to a contact (RFC 6121 §3.1.5).
	Announce(out *xmpp.Out, account, to xmpp.JID)
	// Withdraw sends unavailable presence from each available resource to a contact (RFC 6121 §3.2.2).
	Withdraw(out *xmpp.Out, account, from xmpp.JID)
}

// Blocks is what Moved needs of the blocking feature.
type Blocks interface {
	Blocked(tx *store.Tx, account, who xmpp.JID) bool
	// Add takes over whom the account blocked at its old address.
	Add(tx *store.Tx, out *xmpp.Out, account xmpp.JID, list []xmpp.JID)
}

// Messages sends a message in the name of an account of ours, durably.
type Messages interface {
	Say(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza) error
}

// Accounts makes the new account of a member who moves within the box.
type Accounts interface {
	// Copy makes an account with the password and the role of another one.
	Copy(tx *store.Tx, out *xmpp.Out, from, to xmpp.JID) error
}

// Inbox takes a message for an account durably, in the transaction, and delivers it as soon as a resource can take it.
type Inbox interface {
	Queue(tx *store.Tx, out *xmpp.Out, account xmpp.JID, st *xmpp.Stanza)
}

// Events is what Moved needs of PEP.
type Events interface {
	// SendLast tells everybody who listens of the newest item of a node that is served from now on.
	SendLast(tx *store.Tx, out *xmpp.Out, account xmpp.JID, node string)
	// PublishFor and RetractFor do in an account's name what its clients can.
	PublishFor(tx *store.Tx, out *xmpp.Out, account xmpp.JID, node, id string, payload *frame.Node) error
	RetractFor(tx *store.Tx, out *xmpp.Out, account xmpp.JID, node, id string)
}

// Options and limits, with their defaults.
type Options struct {
	Log *slog.Logger
	// Timeout of a query for a moved statement. Default 30 s.
	Timeout time.Duration
	// AcceptDialback: a reply over a stream that only dialback vouches for counts as proof. Default no.
	AcceptDialback bool
	// PerSender, PerDomain, Total: verifications per hour for one claimed new address, for one remote domain, and in all. InFlight:
	// verifications at the same time. Over a limit a request is ordinary. A claim about an address of this box, by another one of it, is within them always. Defaults 30, 200, 600, 32.
	PerSender, PerDomain, Total, InFlight int
	// RetryMin, RetryMax: the first pause before what another server did not confirm is sent again, and the longest; it doubles. Defaults
	// 30 s, 6 h.
	RetryMin, RetryMax time.Duration
	// StatementDelay is how long a published statement waits before it is served, so that the owner can cancel it. Default 0.
	StatementDelay time.Duration
	// Forwarding is how long at least an old account tells where it went before it is closed. Default 90 days.
	Forwarding time.Duration
	// Close closes an account that moved, with all that hangs on it.
	Close func(account xmpp.JID) error
	// Steps hang on every job, in this order.
	Steps []Step
	// Language of notices to users whose own language is not known: a code like "de". Default "en".
	Language string
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.PerSender, 30}, {&o.PerDomain, 200}, {&o.Total, 600}, {&o.InFlight, 32}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Timeout, 30 * time.Second}, {&o.Forwarding, 90 * 24 * time.Hour}, {&o.RetryMin, 30 * time.Second}, {&o.RetryMax, 6 * time.Hour}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// Needs are the features that Moved stands on.
type Needs struct {
	Roster   Roster
	Presence Presence
	Blocks   Blocks
	Inbox    Inbox
	Events   Events
	Messages Messages
	Accounts Accounts
}

// Moved is the feature.
type Moved struct {
	r      *xmpp.Router
	opt    Options
	needs  Needs
	outbox *Outbox

	mu      sync.Mutex
	running map[claimKey]*query
	homes   map[string]*home // by domain, while claims wait for them
	asking  int              // questions under way, or whose outcome is being written
	limits  limits
	runs    map[xmpp.JID]*run // by new address
	closing *time.Timer
	stopped bool

	pace  pace
	steps []Step
}

// Register hangs Moved on the router. Call Start when the router can send.
func Register(r *xmpp.Router, needs Needs, opt Options) *Moved {
	opt.defaults()
	m := &Moved{r: r, opt: opt, needs: needs, running: map[claimKey]*query{}, homes: map[string]*home{}, runs: map[xmpp.JID]*run{}}
	m.steps = append([]Step{{"contents", true, m.copyContents}, {"archive", true, m.inherit}, {"bookmarks", false, m.moveBookmarks}}, opt.Steps...)
	m.limits = limits{perSender: opt.PerSender, perDomain: opt.PerDomain, total: opt.Total}
	m.outbox = newOutbox(r, opt)
	m.outbox.gaveUp = m.unreached
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Presence, Type: "subscribe", NS: NS, Name: "moved"}, m.arrive)
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: nsTold, Name: "told"}, m.answerTold)
	r.FilterIn(m.outbox.bounced)
	r.FilterIn(m.denied)
	r.FilterIn(m.forward)
	r.FilterIn(m.heardGone)
	r.FilterIn(m.answeredError)
	r.Announce(xmpp.ToAccount, NS)
	r.Announce(xmpp.ToServer, NS) // who plans a move asks as a stranger
	return m
}

// Start takes up what a stop or a crash left: claims are verified again (row 5), the outbox is sent again (row 12), statements wait on, jobs go on.
func (m *Moved) Start() error {
	var waiting []claimKey
	delayed := map[xmpp.JID]time.Time{}
	err := m.r.Store.View(func(tx *store.Tx) error {
		for key, c := range store.Claims.All(tx) {
			if k, ok := parseClaimKey(key, c.Old); ok {
				waiting = append(waiting, k)
			}
		}
		for account, mv := range store.Moves.All(tx) {
			if j, err := xmpp.ParseJID(account); err == nil && time.Now().Before(mv.Visible) {
				delayed[j] = mv.Visible
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for account, at := range delayed {
		m.serveAt(account, at)
	}
	m.resume(waiting)
	return errors.Join(m.outbox.start(), m.startJobs())
}

// Stop ends timers; what is durable goes on at the next Start.
func (m *Moved) Stop() {
	m.mu.Lock()
	m.stopped = true
	for _, s := range m.runs {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	for _, h := range m.homes {
		if h.timer != nil {
			h.timer.Stop()
		}
	}
	if m.closing != nil {
		m.closing.Stop()
	}
	m.mu.Unlock()
	m.outbox.stop()
}
