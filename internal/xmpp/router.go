// Package xmpp is the core: stanzas, addresses, sessions, and the Router with the table that features hang on.
//
// A stanza comes in through FromSession or FromPeer, is classified by its address, and goes to the most specific handler
// of (class, kind, type, payload). A handler either answers at once from what is committed (Handle), or runs inside the
// committer's transaction and lets its effects out after the sync (HandleTx).
//
// Invariants: no lock of a session or an account is held over I/O; a peer's queue is touched only with a complete
// stanza in hand; nothing that runs as an effect blocks. Time is package time: tests run in testing/synctest bubbles.
package xmpp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"pibox/internal/store"

	"mellium.im/xmpp/stanza"
)

// Class says from whom or to whom a stanza is, as far as handlers differ.
type Class uint8

const (
	// Outbound is what a session sends to anybody but its own account and server, before it is routed. A handler
	// takes it over wholly: what is to go on goes by Send.
	Outbound Class = iota
	// Broadcast is presence that a session sends without an address.
	Broadcast
	// ToServer is addressed to one of our domains.
	ToServer
	// ToAccount is addressed to the bare JID of an account that exists and is not closed; what a session sends without
	// an address (but presence) is addressed to its own account (RFC 6120 §10.3).
	ToAccount
	// ToResource is addressed to a full JID of an account that exists and is not closed.
	ToResource
	// ToNobody is addressed to an account that does not exist or is closed.
	ToNobody
	classes
)

// Key selects a handler. An empty NS and Name take any payload, Type "*" any type.
type Key struct {
	Class    Class
	Kind     Kind
	Type     string
	NS, Name string
}

// Handler acts at once. It must not wait for the committer. An error is told to the sender.
type Handler func(rq *Request) error

// TxHandler runs inside the transaction, perhaps more than once: it reads, decides, writes through tx, and tells the world
// through out. An error discards its writes and effects and is told to the sender.
type TxHandler func(tx *store.Tx, out *Out, rq *Request) error

// Filter sees what is addressed to an account (inbound) or what a session sends (outbound), before any handler. An error is told to the
// sender where that is allowed; drop ends it silently.
type Filter func(rq *Request) (drop bool, err error)

type route struct {
	writes func(rq *Request) bool // decides where there are both
	now    Handler
	tx     TxHandler
}

// Proof is how a peer domain was authenticated.
type Proof uint8

// Proofs, the stronger the greater.
const (
	ProofNone Proof = iota
	ProofDialback
	ProofCertificate
)

// Peer is another server, as far as it proved who it is.
type Peer struct {
	Domain string
	Proof  Proof
	ConnID string
}

// Remote carries stanzas to other servers. Send never blocks; what can not be delivered comes back through Router.Bounce.
type Remote interface{ Send(st *Stanza) }

// RecallingRemote is a Remote that takes back what it has not written yet.
type RecallingRemote interface {
	Remote
	// Recall takes the copies of a stanza that is not stored out of what waits; they do not come back. It tells how many there were of which nothing
	// has left the box, and why. It never blocks, and may be called within a transaction.
	Recall(st *Stanza) (unsent int, why *StanzaError)
}

// DurableRemote is a Remote that gets stored stanzas (Stanza.Seq) to other servers across links and runs.
type DurableRemote interface {
	Remote
	// MayOwe tells, before a stanza is appended to the log with Remote, whether its sender may have one more waiting for other servers; the error is for him.
	MayOwe(st *Stanza) error
	// Owe tells, within the transaction that appended it, that an entry of the log is owed to the server that the stanza is for. Send of it follows.
	Owe(tx *store.Tx, st *Stanza, seq uint64)
}

// Request is a stanza on its way to a handler.
type Request struct {
	*Stanza
	Router  *Router
	Class   Class
	Session *Session // the sender's, where he is one of ours
	Peer    *Peer    // the sender's server, where he is not
	Note    any      // what a handler that sent it on tells the next one, see Out.SendNoted
	receipt *Receipt
	out     *Out      // set while it is handled in a transaction
	done    bool      // a reply was given
	behind  *inFlight // the operation it waited behind
}

// Account is the bare JID that the stanza is addressed to.
func (rq *Request) Account() JID { return rq.To.Bare() }

// View reads what is committed; inside a transaction also what that one wrote. Filters and handlers use it instead of Store.View, which
// must not be called while a transaction runs.
func (rq *Request) View(read func(tx *store.Tx) error) error {
	if rq.out != nil {
		return read(rq.out.tx)
	}
	return rq.Router.Store.View(read)
}

// FromOwner tells that the sender is the account that the stanza is addressed to.
func (rq *Request) FromOwner() bool {
	return rq.Session != nil && rq.Session.JID.Bare() == rq.To.Bare()
}

// Reply answers an IQ request with a result at once. Inside a transaction use Out.Reply.
func (rq *Request) Reply(payload []byte) {
	rq.done = true
	rq.Router.answer(rq, rq.Result(payload))
}

// Router is the box's switchboard.
type Router struct {
	Store *store.Store
	Log   *slog.Logger

	remote  Remote
	domains []string // own domains, the first is the main one; fixed after start

	routes     map[Key]route
	inFilters  []Filter
	outFilters []Filter
	features   [classes][]string
	streamFeat []func() []byte
	onPresence []func(s *Session, old, now *Stanza)
	onContact  []func(account JID, st *Stanza)
	onUnbind   []func(s *Session)
	onUnsent   []func(*Session, []*Stanza)
	onTaken    []func(*Session, *Stanza)
	onDetached []func(s *Session, detached bool)
	keepers    []keeper

	mu       sync.RWMutex
	accounts map[JID]*Account
	asks     asks
	order    order
}

// NewRouter makes the router of a box that serves these domains (prepared).
func NewRouter(st *store.Store, log *slog.Logger, domains []string) *Router {
	return &Router{
		Store: st, Log: log, domains: domains, routes: map[Key]route{}, accounts: map[JID]*Account{},
		asks: asks{waiting: map[askKey]*ask{}}, order: order{last: map[pair]*inFlight{}},
	}
}

// SetRemote tells how other servers are reached; before that, they are not found.
func (r *Router) SetRemote(rm Remote) { r.remote = rm }

// Remote is how other servers are reached; nil before SetRemote.
func (r *Router) Remote() Remote { return r.remote }

// Recall takes back what was sent to another server and is not written yet; see RecallingRemote.
func (r *Router) Recall(st *Stanza) (unsent int, why *StanzaError) {
	if rm, ok := r.remote.(RecallingRemote); ok {
		return rm.Recall(st)
	}
	return 0, nil
}

// Domains are the domains of this box; the first is the main one.
func (r *Router) Domains() []string { return r.domains }

// IsLocal tells whether a domain is ours.
func (r *Router) IsLocal(domain string) bool { return slices.Contains(r.domains, domain) }

// Handle registers a handler. Two for one key are a fault of the program and panic at start.
func (r *Router) Handle(k Key, h Handler) { r.add(k, route{now: h}) }

// HandleTx registers a handler that runs in the transaction.
func (r *Router) HandleTx(k Key, h TxHandler) { r.add(k, route{tx: h}) }

// HandleEither registers two handlers of one kind of stanza. What comes by Out.Send goes to tx, in the transaction of its sender. What comes by
// itself goes to tx where writes is true (nil: never), else to now. writes is asked at once, when what came before may still be waiting for the committer, so it looks at
// nothing but the stanza; what it finds out it may leave in rq.Note.
func (r *Router) HandleEither(k Key, writes func(rq *Request) bool, now Handler, tx TxHandler) {
	r.add(k, route{writes: writes, now: now, tx: tx})
}

func (r *Router) add(k Key, rt route) {
	if _, ok := r.routes[k]; ok {
		panic(fmt.Sprintf("xmpp: two handlers for %+v", k))
	}
	r.routes[k] = rt
}

// FilterIn adds a filter for what is addressed to our accounts and their resources, also by each other, and to what is no account
// (ToNobody).
func (r *Router) FilterIn(f Filter) { r.inFilters = append(r.inFilters, f) }

// FilterOut adds a filter for what our sessions send to others.
func (r *Router) FilterOut(f Filter) { r.outFilters = append(r.outFilters, f) }

// Announce adds service discovery features to our domains (ToServer) or to accounts (ToAccount). A feature is announced when it works.
func (r *Router) Announce(c Class, features ...string) {
	r.features[c] = append(r.features[c], features...)
	slices.Sort(r.features[c])
}

// Features are what was announced, sorted.
func (r *Router) Features(c Class) []string { return r.features[c] }

// StreamFeature adds an element to the stream features that clients get after authentication.
func (r *Router) StreamFeature(f func() []byte) { r.streamFeat = append(r.streamFeat, f) }

// StreamFeatures are the elements of StreamFeature, in order.
func (r *Router) StreamFeatures() []byte {
	var b []byte
	for _, f := range r.streamFeat {
		b = append(b, f()...)
	}
	return b
}

// OnPresence adds a hook that runs after a session's broadcast presence changed: old is nil when it was unavailable, now is nil when it is.
func (r *Router) OnPresence(f func(s *Session, old, now *Stanza)) {
	r.onPresence = append(r.onPresence, f)
}

// OnContactPresence adds a hook for available and unavailable presence that an account got from a contact or by direction.
func (r *Router) OnContactPresence(f func(account JID, st *Stanza)) {
	r.onContact = append(r.onContact, f)
}

// ContactPresence runs the hooks of OnContactPresence.
func (r *Router) ContactPresence(account JID, st *Stanza) {
	for _, f := range r.onContact {
		f(account, st)
	}
}

// OnUnbind adds a hook that runs when a session has ended for good, after it left the account.
func (r *Router) OnUnbind(f func(s *Session)) { r.onUnbind = append(r.onUnbind, f) }

// OnTaken adds a hook for stored stanzas (Stanza.Seq) that a client has: it acknowledged them, or, where it does not do XEP-0198, they were
// written to its connection. It must not block.
func (r *Router) OnTaken(f func(s *Session, st *Stanza)) { r.onTaken = append(r.onTaken, f) }

// Taken runs the hooks of OnTaken; for a stanza that is not stored it does nothing.
func (r *Router) Taken(s *Session, st *Stanza) {
	if st.Seq == 0 {
		return
	}
	for _, f := range r.onTaken {
		f(s, st)
	}
}

// OnDetached adds a hook that runs when a session loses its connection and may be resumed (XEP-0198 §5), and when it was resumed.
func (r *Router) OnDetached(f func(s *Session, detached bool)) {
	r.onDetached = append(r.onDetached, f)
}

// OnUnsent adds a hook for the stanzas that a session took but that its client is not known to have when it ended for good, in their order; it
// runs after OnUnbind. The client may have got the first of them.
func (r *Router) OnUnsent(f func(s *Session, unsent []*Stanza)) { r.onUnsent = append(r.onUnsent, f) }

// Unsent runs the hooks of OnUnsent. Who waits for an answer to an IQ is told that there will be none (RFC 6121 §8.5.3.2.3).
func (r *Router) Unsent(s *Session, unsent []*Stanza) {
	for _, st := range unsent {
		if st.IsRequest() && !st.From.IsZero() {
			r.Bounce(st, Errorf(stanza.ServiceUnavailable, ""))
		}
	}
	for _, f := range r.onUnsent {
		f(s, unsent)
	}
}

// find looks the most specific handler up.
func (r *Router) find(c Class, st *Stanza) (route, bool) {
	for _, child := range st.Children {
		if rt, ok := r.routes[Key{c, st.Kind, st.Type, child.NS, child.Name}]; ok {
			return rt, true
		}
		if st.Kind == IQ {
			break // an IQ has one payload
		}
	}
	if rt, ok := r.routes[Key{Class: c, Kind: st.Kind, Type: st.Type}]; ok {
		return rt, true
	}
	rt, ok := r.routes[Key{Class: c, Kind: st.Kind, Type: "*"}]
	return rt, ok
}

// Ping is the watchdog's round trip through router and committer; it writes nothing.
func (r *Router) Ping(ctx context.Context) error {
	r.mu.RLock()
	_ = len(r.accounts)
	r.mu.RUnlock()
	return r.Store.Ping(ctx)
}
