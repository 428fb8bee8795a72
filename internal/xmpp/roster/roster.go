// Package roster keeps the roster and presence subscriptions (RFC 6121 §2, §3 and Appendix A): roster get, set and push with
// versioning, the subscription state machine with pre-approval, and subscription requests that await an answer, whole.
//
// A contact's state is his roster item (Sub, Ask, Approved) beside the record of a pending inbound request: the nine states of Appendix A.
// Everything that changes it runs inside a transaction; where both sides live here, in the same one.
package roster

import (
	"hash/maphash"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// NS is the roster's namespace.
const NS = "jabber:iq:roster"

// Presences is what the roster needs of the presence feature; both are effects.
type Presences interface {
	// Announce sends the presence of each available resource to a contact.
	Announce(out *xmpp.Out, account, to xmpp.JID)
	// Withdraw sends unavailable presence from each available resource to a contact.
	Withdraw(out *xmpp.Out, account, from xmpp.JID)
}

// Options and limits, with their defaults.
type Options struct {
	// MaxItems in one roster. Default 2000. Beyond it: resource-constraint.
	MaxItems int
	// MaxBytes bounds the addresses, names and groups of one roster together. Default 512 KiB, so that a roster result stays
	// within what one stanza of ours may hold. Beyond it: resource-constraint.
	MaxBytes int
	// MaxPending subscription requests that await one account's answer; one domain gets at most half of them. Default 200. Beyond
	// it the asker gets resource-constraint.
	MaxPending int
	// MaxRequest bounds one pending request, in bytes. Default 16384. A longer one is refused: policy-violation.
	MaxRequest int
	// MaxName bounds a contact's name and each group's, in bytes. Default 1023. MaxGroups bounds the groups of one item. Default 64.
	MaxName, MaxGroups int
	// Tombstones is how many removed items are remembered for roster versioning. Default 200. Who was away for longer gets the whole roster.
	Tombstones int
	// Resend is how long at least the box waits until it sends an unanswered request to another server again (RFC 6121
	// §3.1.2), which it does when the account comes online. Default 12 hours.
	Resend time.Duration
}

func (o *Options) defaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&o.MaxItems, 2000},
		{&o.MaxBytes, 512 << 10},
		{&o.MaxPending, 200},
		{&o.MaxRequest, 16 << 10},
		{&o.MaxName, 1023},
		{&o.MaxGroups, 64},
		{&o.Tombstones, 200},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if o.Resend <= 0 {
		o.Resend = 12 * time.Hour
	}
}

// Change is a change of one contact's state, told inside the transaction that makes it.
type Change struct {
	Account, Contact xmpp.JID
	// Old and Now are the items; Sub is none and Version zero where there is none.
	Old, Now store.RosterItem
	// WasPending and Pending tell whether a subscription request of the contact awaited, and awaits, the account's answer.
	WasPending, Pending bool
	// ByContact: the contact did it, not the account.
	ByContact bool
}

// Roster is the feature.
type Roster struct {
	r        *xmpp.Router
	presence Presences
	opt      Options
	onChange []func(tx *store.Tx, out *xmpp.Out, c Change)
	onResend []func(tx *store.Tx, st *xmpp.Stanza) *xmpp.Stanza
	onAnswer func(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, denies bool)

	seed  maphash.Seed
	locks [64]sync.Mutex // by account: pushes and roster results of one account go out one after the other

	mu     sync.Mutex
	shown  map[*xmpp.Session]map[xmpp.JID]int64 // requests that a session was shown, by when they came
	resent map[xmpp.JID]time.Time               // when an account's unanswered requests were last sent again
}

// Register hangs the roster on the router.
func Register(r *xmpp.Router, p Presences, opt Options) *Roster {
	opt.defaults()
	ro := &Roster{
		r: r, presence: p, opt: opt, seed: maphash.MakeSeed(),
		shown: map[*xmpp.Session]map[xmpp.JID]int64{}, resent: map[xmpp.JID]time.Time{},
	}
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "query"}, ro.get)
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: NS, Name: "query"}, ro.set)
	for _, typ := range []string{"subscribe", "subscribed", "unsubscribe", "unsubscribed"} {
		r.HandleTx(xmpp.Key{Class: xmpp.Outbound, Kind: xmpp.Presence, Type: typ}, ro.outbound)
		r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Presence, Type: typ}, ro.inbound)
	}
	r.OnPresence(ro.online)
	r.OnUnbind(ro.unbound)
	r.Keep("roster", ro.save, ro.restore)
	r.StreamFeature(func() []byte { return xmpp.NewXMLNS("ver", "urn:xmpp:features:rosterver").Bytes() })
	r.StreamFeature(func() []byte { return xmpp.NewXMLNS("sub", "urn:xmpp:features:pre-approval").Bytes() })
	return ro
}

// OnChange adds a hook that runs inside the transaction of each change, after its writes; it may read, write and send.
func (ro *Roster) OnChange(f func(tx *store.Tx, out *xmpp.Out, c Change)) {
	ro.onChange = append(ro.onChange, f)
}

// OnResend adds a hook that is given each unanswered request which the box sends to another server again of its own accord (RFC 6121 §3.1.2); it
// returns what is sent in its place, nil for nothing.
func (ro *Roster) OnResend(f func(tx *store.Tx, st *xmpp.Stanza) *xmpp.Stanza) {
	ro.onResend = append(ro.onResend, f)
}

// OnAnswer tells who sends answers to other servers ("subscribed", "unsubscribed") durably; without it they are sent once.
// denies tells of an "unsubscribed" that a request waited.
func (ro *Roster) OnAnswer(f func(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, denies bool)) {
	ro.onAnswer = f
}

func (ro *Roster) lock(account xmpp.JID) *sync.Mutex {
	return &ro.locks[maphash.String(ro.seed, account.String())%uint64(len(ro.locks))]
}
