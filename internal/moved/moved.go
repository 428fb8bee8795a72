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
	"log/slog"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// NS is the namespace of Moved 2.0 and the name of the PEP node that holds a moved statement.
const NS = "urn:xmpp:moved:1"

const nsPubSub = "http://jabber.org/protocol/pubsub"

// Roster is what Moved needs of the roster feature; all inside a transaction.
type Roster interface {
	Item(tx *store.Tx, account, contact xmpp.JID) (store.RosterItem, bool)
	// Put writes an item and queues the roster push to the interested resources.
	Put(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, item store.RosterItem)
	// CanKeep tells whether a subscription request can be kept until it is answered; its error is what the sender is to be told.
	CanKeep(tx *store.Tx, st *xmpp.Stanza) error
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
}

// Inbox takes a message for an account durably, in the transaction, and delivers it as soon as a resource can take it.
type Inbox interface {
	Queue(tx *store.Tx, out *xmpp.Out, account xmpp.JID, st *xmpp.Stanza)
}

// Events is what Moved needs of PEP.
type Events interface {
	// SendLast tells everybody who listens of the newest item of a node that is served from now on.
	SendLast(tx *store.Tx, out *xmpp.Out, account xmpp.JID, node string)
}

// Options and limits, with their defaults.
type Options struct {
	Log *slog.Logger
	// Timeout of a query for a moved statement. Default 30 s.
	Timeout time.Duration
	// AcceptDialback: a reply over a stream that only dialback vouches for counts as proof. Default no.
	AcceptDialback bool
	// PerSender, PerDomain, Total: verifications per hour for one claimed new address, for one remote domain, and in all. InFlight:
	// verifications at the same time. Over a limit a request is ordinary. Defaults 10, 60, 600, 32.
	PerSender, PerDomain, Total, InFlight int
	// RetryMin, RetryMax: the first pause before what another server did not confirm is sent again, and the longest; it doubles. Defaults
	// 30 s, 6 h.
	RetryMin, RetryMax time.Duration
	// StatementDelay is how long a published statement waits before it is served, so that the owner can cancel it. Default 0.
	StatementDelay time.Duration
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
	}{{&o.PerSender, 10}, {&o.PerDomain, 60}, {&o.Total, 600}, {&o.InFlight, 32}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Timeout, 30 * time.Second}, {&o.RetryMin, 30 * time.Second}, {&o.RetryMax, 6 * time.Hour}} {
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
}

// Moved is the feature.
type Moved struct {
	r      *xmpp.Router
	opt    Options
	needs  Needs
	outbox *Outbox

	mu      sync.Mutex
	running map[claimKey]*query
	limits  limits
	stopped bool
}

// Register hangs Moved on the router. Call Start when the router can send.
func Register(r *xmpp.Router, needs Needs, opt Options) *Moved {
	opt.defaults()
	m := &Moved{r: r, opt: opt, needs: needs, running: map[claimKey]*query{}}
	m.limits = limits{perSender: opt.PerSender, perDomain: opt.PerDomain, total: opt.Total}
	m.outbox = newOutbox(r, opt)
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Presence, Type: "subscribe", NS: NS, Name: "moved"}, m.arrive)
	r.FilterIn(m.outbox.bounced)
	r.FilterIn(m.forward)
	r.FilterIn(m.heardGone)
	r.Announce(xmpp.ToAccount, NS)
	return m
}

// Start takes up what a stop or a crash left: claims are verified again (row 5), the outbox is sent again (row 12), statements wait on.
func (m *Moved) Start() error {
	var waiting []claimKey
	delayed := map[xmpp.JID]time.Time{}
	held := false
	err := m.r.Store.View(func(tx *store.Tx) error {
		held = store.Held(tx)
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
	for _, k := range waiting {
		m.verify(k)
	}
	if held {
		return nil
	}
	return m.outbox.start()
}

// Resume sends what waited while the box was held (store.Held).
func (m *Moved) Resume() error { return m.outbox.start() }

// Stop ends timers; what is durable goes on at the next Start.
func (m *Moved) Stop() {
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	m.outbox.stop()
}
