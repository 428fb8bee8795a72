// Package push tells the push services of an account's devices that something came while they had no connection (XEP-0357).
//
// A registration belongs to the device that enabled it. Of one at most one publication is unanswered at a time; what comes meanwhile is told
// together afterwards. What an account's publications may cost others is bounded by a rate, which delays and merges them, and loses none.
package push

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// NS is the namespace of XEP-0357.
const NS = "urn:xmpp:push:0"

// Messages is where messages to accounts arrive.
type Messages interface {
	// OnMessage adds a hook for each message to an account that is stored, after that and after it was delivered to those sessions.
	OnMessage(f func(account xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session))
}

// Options and limits, with their defaults.
type Options struct {
	Log *slog.Logger
	// Sender and Body tell push services who wrote the last message and what, where an account's own PushContent does not say otherwise.
	Sender, Body bool
	// Max is how many registrations an account may have. Default 20. Beyond it: resource-constraint.
	Max int
	// MaxForm bounds the publish-options of one, in bytes. Default 4096. Beyond it: not-acceptable.
	MaxForm int
	// Timeout is how long a push service has to answer. Default 1 minute.
	Timeout time.Duration
	// RetryMin and RetryMax are the first and the longest pause after a push service could not be reached; it doubles. Defaults 30 s and 1 hour.
	RetryMin, RetryMax time.Duration
	// GiveUp is after how long without success a registration ends. Default 30 days.
	GiveUp time.Duration
	// Burst is how many publications of an account may go out at once, Interval the time after which one more may. Defaults 60 and 6 s.
	Burst    int
	Interval time.Duration
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Max, 20}, {&o.MaxForm, 4096}, {&o.Burst, 60}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Timeout, time.Minute}, {&o.RetryMin, 30 * time.Second}, {&o.RetryMax, time.Hour}, {&o.GiveUp, 30 * 24 * time.Hour}, {&o.Interval, 6 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// Push is the feature.
type Push struct {
	r   *xmpp.Router
	opt Options

	mu       sync.Mutex // held for no other work than on what it guards
	accounts map[xmpp.JID]*account
}

// account has, or had, registrations.
type account struct {
	list []*registration // in the order of enabling
	rate rate
}

// target is what a publication goes to.
type target struct {
	service xmpp.JID
	node    string
}

// Register hangs push notifications on the router.
func Register(r *xmpp.Router, m Messages, opt Options) *Push {
	opt.defaults()
	p := &Push{r: r, opt: opt, accounts: map[xmpp.JID]*account{}}
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: NS, Name: "enable"}, p.enable)
	r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: NS, Name: "disable"}, p.disable)
	r.FilterIn(p.revoked)
	m.OnMessage(p.message)
	r.OnTaken(p.taken)
	r.OnDetached(p.detached)
	r.OnUnbind(p.unbound)
	r.Announce(xmpp.ToAccount, NS)
	return p
}

// Load reads the registrations at start, and what waits for their devices.
func (p *Push) Load() error {
	found := map[xmpp.JID][]*registration{} // by account
	if err := p.r.Store.View(func(tx *store.Tx) error {
		for key, rec := range store.Pushes.All(tx) {
			part := strings.SplitN(key, "\x00", 3)
			bare, err := xmpp.ParseJID(part[0])
			if err != nil {
				return err
			}
			service, err := xmpp.ParseJID(part[1])
			if err != nil {
				return err
			}
			found[bare] = append(found[bare], &registration{target: target{service, part[2]}, account: bare, rec: rec})
		}
		return nil
	}); err != nil {
		return err
	}
	for bare, list := range found { // one after the other: an account's messages may be much for the memory
		var waiting []*xmpp.Stanza
		if err := p.r.Store.View(func(tx *store.Tx) error { waiting = owed(tx, bare); return nil }); err != nil {
			return err
		}
		waiting = slices.DeleteFunc(waiting, func(st *xmpp.Stanza) bool { return !p.r.Admits(st) }) // the filters may read themselves
		for _, g := range list {
			g.load(waiting)
		}
		p.mu.Lock()
		p.account(bare).list = list
		p.mu.Unlock()
	}
	return nil
}

// owed is what no device of an account has, as far as the store knows, and push services are told of. Which device had what is in memory alone: for
// an account with several, what another one took before the start is not counted any more.
func owed(tx *store.Tx, bare xmpp.JID) (list []*xmpp.Stanza) {
	for o := range store.LogOf(tx, store.Range{Account: bare.String(), After: store.Delivered(tx, bare.String()), Role: store.Owed}) {
		if st, err := xmpp.ParseStanza(o.Stanza); err == nil && st.From.Bare() != bare && important(st) {
			list = append(list, st.Stored(o.Seq))
		}
	}
	return list
}

// Stop ends what waits; nothing is published afterwards.
func (p *Push) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.accounts {
		for _, g := range a.list {
			g.end()
		}
		a.list = nil
	}
}

// Clear forgets the registrations of an account that is removed, as an effect; the records go with store.ClearAccount.
func (p *Push) Clear(out *xmpp.Out, bare xmpp.JID) {
	out.After(func() { p.drop(bare, func(*registration) bool { return true }) })
}

// Forget ends, in a transaction, the registrations of an account but those of one session (nil: all): its password was changed, and whoever knew
// the old one is to learn nothing more. Who logs in with the new one enables them again.
func (p *Push) Forget(tx *store.Tx, out *xmpp.Out, bare xmpp.JID, but *xmpp.Session) {
	for k, rec := range store.Pushes.All(tx, bare.String()) {
		if but == nil || rec.Device != but.JID.Resource {
			store.Pushes.Delete(tx, k)
		}
	}
	out.After(func() {
		p.drop(bare, func(g *registration) bool { return but == nil || g.rec.Device != but.JID.Resource })
	})
}

// account is called with the lock.
func (p *Push) account(bare xmpp.JID) *account {
	a := p.accounts[bare]
	if a == nil {
		a = &account{}
		p.accounts[bare] = a
	}
	return a
}

// put makes or renews a registration in memory.
func (p *Push) put(bare xmpp.JID, t target, rec store.Push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.account(bare)
	fresh := &registration{target: t, account: bare, rec: rec}
	i := slices.IndexFunc(a.list, func(g *registration) bool { return g.target == t })
	switch {
	case i < 0:
		a.list = append(a.list, fresh)
		return
	case a.list[i].ended: // it is about to be deleted: remove
		a.list[i] = fresh
		return
	}
	g := a.list[i]
	if g.rec.Device != rec.Device {
		g.with = nil
	}
	g.rec = rec
	g.back()
	g.recover()
}

// drop ends registrations in memory.
func (p *Push) drop(bare xmpp.JID, which func(*registration) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.accounts[bare]
	if a == nil {
		return
	}
	a.list = slices.DeleteFunc(a.list, func(g *registration) bool {
		if !which(g) {
			return false
		}
		g.end()
		return true
	})
}

func key(bare xmpp.JID, t target) string {
	return store.Key(bare.String(), t.service.String(), t.node)
}
