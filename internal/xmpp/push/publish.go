package push

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// publication is what one registration's push service is told.
type publication struct {
	g      *registration
	rec    store.Push
	unread int
	last   *xmpp.Stanza
}

// next appends what is to be published now for a registration; called with the lock.
func (p *Push) next(list []publication, g *registration) []publication {
	if !g.due || g.asking || g.timer != nil || g.ended {
		return list
	}
	if !p.away(g) {
		g.back()
		return list
	}
	if !g.slot {
		if d := p.accounts[g.account].rate.wait(time.Now(), p.opt.Burst, p.opt.Interval); d > 0 {
			g.slot = true
			p.pause(g, d)
			return list
		}
	}
	g.slot, g.due, g.asking = false, false, true
	return append(list, publication{g, g.rec, g.unread, g.last})
}

// pause publishes nothing for a while; called with the lock.
func (p *Push) pause(g *registration, d time.Duration) {
	g.timer = time.AfterFunc(d, func() {
		p.mu.Lock()
		g.timer = nil
		list := p.next(nil, g)
		p.mu.Unlock()
		p.publish(list)
	})
}

// publish is §7. The sender is the account's server (§7, example 10): its bare JID would be proof of the same.
func (p *Push) publish(list []publication) {
	for _, b := range list {
		payload, err := p.notification(b)
		if err != nil {
			p.opt.Log.Error("push: reading what to tell", "error", err)
			p.answered(b, nil)
			continue
		}
		p.r.Ask(xmpp.Ask{
			From: b.g.account.Host(), To: b.g.service, Type: "set", Timeout: p.opt.Timeout, Payload: payload,
			Done: func(reply *xmpp.Request) { p.answered(b, reply) },
		})
	}
}

// outcome of a publication.
type outcome int

const (
	delivered outcome = iota
	failed            // may work another time
	refused
)

// judge is §7.1. What says that the service can not be reached is no refusal.
func judge(reply *xmpp.Request) (o outcome, condition string) {
	if reply == nil {
		return failed, "no answer"
	}
	if reply.Type != "error" {
		return delivered, ""
	}
	e := reply.Node().Child("", "error")
	if e == nil {
		return refused, "an error without a condition"
	}
	for _, c := range e.Children {
		if c.NS == xmpp.NSStanzas && c.Name != "text" {
			condition = c.Name
			break
		}
	}
	switch stanza.Condition(condition) {
	case stanza.RemoteServerNotFound, stanza.RemoteServerTimeout, stanza.InternalServerError, stanza.ResourceConstraint:
		return failed, condition
	}
	if e.Attr("type") == string(stanza.Wait) {
		return failed, condition
	}
	return refused, condition
}

// minFails is how often a service must have failed in a row, besides for how long: a clock that is put right is no time that passed.
const minFails = 10

func (p *Push) answered(b publication, reply *xmpp.Request) {
	g := b.g
	o, condition := judge(reply)
	p.mu.Lock()
	g.asking = false
	current := !g.ended && g.rec.Same(b.rec)
	remove := current && o == refused
	switch {
	case g.ended, !current && o != delivered: // it is about what the device has replaced meanwhile
	case o == delivered:
		g.recover()
		p.failing(g, time.Time{})
	case o == failed:
		remove = p.failed(g)
	}
	var list []publication
	if !remove {
		list = p.next(nil, g)
	}
	p.mu.Unlock()
	if o != delivered {
		p.opt.Log.Debug("push: not delivered", "account", g.account, "service", g.service, "condition", condition)
	}
	if remove {
		p.remove(g, condition)
	}
	p.publish(list)
}

// failed makes a registration wait after a failure, or tells that it failed for too long; called with the lock.
func (p *Push) failed(g *registration) (tooLong bool) {
	g.fails++
	g.due = true
	now := time.Now().UTC()
	if g.rec.Failing.IsZero() {
		p.failing(g, now)
	}
	if g.fails >= minFails && now.Sub(g.rec.Failing) > p.opt.GiveUp {
		return true
	}
	d := p.opt.RetryMax
	if n := g.fails - 1; n < 20 {
		d = min(d, p.opt.RetryMin<<n)
	}
	p.pause(g, d)
	return false
}

// failing keeps since when a service can not be reached; called with the lock. Lost in a power cut, the time is counted anew.
func (p *Push) failing(g *registration, since time.Time) {
	if g.rec.Failing.Equal(since) {
		return
	}
	g.rec.Failing = since
	rec, k := g.rec, key(g.account, g.target)
	p.r.Submit(len(k), func(tx *store.Tx, _ *xmpp.Out) error {
		if now, ok := store.Pushes.Get(tx, k); ok && now.Same(rec) {
			now.Failing = since
			store.Pushes.Put(tx, k, now)
		}
		return nil
	}, nil)
}
