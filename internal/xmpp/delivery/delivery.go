// Package delivery is the path of messages: to an account's resources (RFC 6121 §8.5), into its archive (XEP-0313), as copies to its other
// devices (XEP-0280), and to devices that come later (offline messages, XEP-0160).
//
// What is stored is stored once, in the log, before anybody gets it. Every message that is not to be lost is owed to its recipient until one of
// his devices took it. How far an account's devices have come is a cursor into the log; it is written with the account's next transaction, so
// that a message costs one sync. After a power cut the last messages may come again, with the same archive ids.
//
// A message that a recipient refuses, because he blocks the sender or too much waits for him, is in the sender's archive nevertheless: it is what he sent.
package delivery

import (
	"hash/maphash"
	"log/slog"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Options and limits.
type Options struct {
	Log *slog.Logger
	// Archives tells whether an account's archive takes what it exchanges with somebody, by his bare or full JID (XEP-0441). nil: always.
	Archives func(tx *store.Tx, account, with xmpp.JID) bool
	// OneOccupant tells whether two sessions of an account are one occupant of a room (multi-session nicks, XEP-0045). nil: never.
	OneOccupant func(a, b *xmpp.Session, room xmpp.JID) bool
	// MaxOwed is how many messages may wait for one account's devices. Default 5000. Beyond it senders get resource-constraint while no device is there.
	MaxOwed int
	// MaxBytes bounds these messages in bytes, so that strangers can not fill the card. Default 32 MiB. Both may be exceeded by what is committed at once.
	MaxBytes int
}

// Delivery is the feature.
type Delivery struct {
	r         *xmpp.Router
	opt       Options
	seed      maphash.Seed
	onMessage []func(account xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session)

	mu       sync.Mutex
	accounts map[xmpp.JID]*account
	loading  sync.Mutex // held while an account is read from the store
}

// Register hangs message delivery on the router.
func Register(r *xmpp.Router, opt Options) *Delivery {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.MaxOwed <= 0 {
		opt.MaxOwed = 5000
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 32 << 20
	}
	d := &Delivery{r: r, opt: opt, seed: maphash.MakeSeed(), accounts: map[xmpp.JID]*account{}}
	r.HandleEither(xmpp.Key{Class: xmpp.Outbound, Kind: xmpp.Message, Type: "*"}, d.leaves, d.outbound, d.outboundTx)
	for _, c := range []xmpp.Class{xmpp.ToAccount, xmpp.ToResource} {
		r.HandleEither(xmpp.Key{Class: c, Kind: xmpp.Message, Type: "*"}, d.arrives, d.inbound, d.inboundTx)
	}
	for _, c := range []xmpp.Class{xmpp.ToNobody, xmpp.ToServer} {
		r.Handle(xmpp.Key{Class: c, Kind: xmpp.Message, Type: "*"}, func(*xmpp.Request) error { return errUnavailable() })
	}
	for _, name := range []string{"enable", "disable"} {
		r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: nsCarbons, Name: name}, toggleCarbons)
	}
	r.OnPresence(d.presence)
	r.OnDetached(d.detached)
	r.OnTaken(d.taken)
	r.OnUnbind(d.gone)
	r.Keep("delivery", d.held, d.holds)
	r.Announce(xmpp.ToServer, "msgoffline", nsCarbons, nsCarbonRules, nsSID)
	r.Announce(xmpp.ToAccount, nsSID)
	return d
}

func errUnavailable() error { return xmpp.Errorf(stanza.ServiceUnavailable, "") }

// OnMessage adds a hook for what an account got from others: it runs after a message that is stored for the account was committed and handed to
// the sessions that are there, in st's form with the archive id. It must not block.
func (d *Delivery) OnMessage(f func(account xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session)) {
	d.onMessage = append(d.onMessage, f)
}

// Queue stores a message for an account in a transaction and delivers it as any other.
func (d *Delivery) Queue(tx *store.Tx, out *xmpp.Out, account xmpp.JID, st *xmpp.Stanza) {
	p := newPosting(st)
	p.role = store.Owed
	if p.traits.archived && d.archives(tx, account, st.From) {
		p.role |= store.Archived
	}
	p.own(account, st.From.Bare(), p.role)
	p.append(tx)
	d.persist(tx, account)
	out.After(func() { d.arrive(p, account) })
}

// Forget drops what memory holds of an account that goes.
func (d *Delivery) Forget(_ *store.Tx, out *xmpp.Out, account xmpp.JID) error {
	out.After(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.accounts, account)
	})
	return nil
}

// Flush writes how far devices have come, for an orderly end: else messages of the last minutes come again.
func (d *Delivery) Flush() error {
	d.mu.Lock()
	var all []xmpp.JID
	for j, a := range d.accounts {
		a.mu.Lock()
		if a.cursor.unwritten(true) {
			all = append(all, j)
		}
		a.mu.Unlock()
	}
	d.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	return d.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for _, j := range all {
			d.persist(tx, j)
		}
		return nil
	})
}

func (d *Delivery) archives(tx *store.Tx, account, with xmpp.JID) bool {
	return d.opt.Archives == nil || d.opt.Archives(tx, account, with)
}

// isTarget tells a resource that messages to the bare JID go to: its priority is not negative (RFC 6121 §8.5.2).
func isTarget(s *xmpp.Session) bool {
	p, priority := s.Presence()
	return p != nil && priority >= 0
}

func (d *Delivery) hasTarget(account xmpp.JID) bool {
	for _, s := range d.r.Sessions(account) {
		if isTarget(s) {
			return true
		}
	}
	return false
}
