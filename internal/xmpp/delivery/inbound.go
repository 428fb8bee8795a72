package delivery

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// arrives looks at what comes to an account or one of its resources by itself, from other servers, from the account's own sessions, from the box,
// and tells whether it is stored.
func (d *Delivery) arrives(rq *xmpp.Request) bool {
	n := &seen{st: rq.Stanza, by: rq.Session}
	if rq.Session != nil || rq.Peer != nil {
		n.st = d.cleaned(n.st)
	}
	n.traits = look(n.st)
	rq.Note = n
	if !n.traits.stored() {
		return false
	}
	d.note(rq.Account(), n.st.From, n)
	d.account(rq.Account()) // the transaction looks at what memory knows of it
	n.again = rq.Peer != nil && n.st.SentAgain()
	return true
}

// inbound delivers what is not stored to who is there.
func (d *Delivery) inbound(rq *xmpp.Request) error {
	n := rq.Note.(*seen)
	d.note(rq.Account(), n.st.From, n)
	return d.pass(rq.Account(), n.posting())
}

// inboundTx stores what comes by itself, or in the transaction of its sender: from send, which stores it then, or from another feature.
func (d *Delivery) inboundTx(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	account := rq.Account()
	var p *posting
	sent := false
	switch n := rq.Note.(type) {
	case *posting:
		p, sent = n, true
	case *seen:
		if p = n.posting(); n.again && hasRelayed(tx, account, p.st) {
			out.After(func() { d.opt.Log.Info("another server sends again what is here already", "remote", p.st.From.Domain) })
			return nil
		}
	default:
		if p = newPosting(rq.Stanza); !p.traits.stored() {
			out.After(func() { out.Emit(p.st) })
			return nil
		}
	}
	wanted, err := d.accept(tx, account, p)
	if err != nil || !wanted {
		return err
	}
	if !sent {
		p.append(tx)
	}
	out.After(func() {
		if sent {
			d.note(account, p.st.From, &p.seen)
		}
		d.arrive(p, account)
	})
	return nil
}

// accept decides what a message is to its recipient, and makes him an owner of it.
func (d *Delivery) accept(tx *store.Tx, account xmpp.JID, p *posting) (wanted bool, err error) {
	if wanted, err = d.addressee(p); err != nil || !wanted {
		return false, err
	}
	with := p.st.From.Bare()
	// A headline is for who is there (RFC 6121 §8.5.2.2.1), also one that is to be stored: nothing else bounds what strangers leave in an archive.
	transient := p.traits.kind == headline && p.direct.IsZero() && !d.hasTarget(account)
	if p.traits.archived && !transient && d.archives(tx, account, p.st.From) {
		p.role |= store.Archived
	}
	if p.traits.owed {
		switch {
		case d.hasRoom(tx, account, len(p.st.Raw)):
			p.role |= store.Owed
		case p.direct.IsZero() && !d.hasTarget(account):
			return false, xmpp.Errorf(stanza.ResourceConstraint, "too many messages wait for this person")
		}
	}
	if p.by != nil {
		p.role |= store.ByOwner
	}
	p.own(account, with, p.role)
	d.persist(tx, account)
	return true, nil
}

// addressee finds out whom a message is for: a resource (RFC 6121 §8.5.3), the account (§8.5.2), nobody.
func (d *Delivery) addressee(p *posting) (wanted bool, err error) {
	if to := p.st.To; !to.IsBare() {
		if d.r.SessionOf(to) != nil {
			p.direct = to
			return true, nil
		}
		return d.withoutResource(p)
	}
	switch p.traits.kind {
	case failure:
		return false, nil
	case groupchat:
		return false, errUnavailable()
	}
	return true, nil
}

// withoutResource is RFC 6121 §8.5.3.2: the resource is not there.
func (d *Delivery) withoutResource(p *posting) (wanted bool, err error) {
	switch p.traits.kind {
	case chat:
		return true, nil
	case headline, failure:
		return false, nil
	}
	return false, errUnavailable()
}

func (d *Delivery) pass(jid xmpp.JID, p *posting) error {
	wanted, err := d.addressee(p)
	if err != nil || !wanted {
		return err
	}
	a := d.account(jid)
	taken := a.handAll(p)
	if !taken && !p.direct.IsZero() { // it is just going
		p.direct = xmpp.JID{}
		if wanted, err = d.withoutResource(p); err != nil || !wanted {
			return err
		}
		taken = a.handAll(p)
	}
	if !taken && p.traits.substance && p.traits.kind != headline {
		return errUnavailable() // it asked not to be stored: the sender is told that it is lost
	}
	return nil
}

// arrive hands a message that was stored to the resources that are there. It is an effect.
func (d *Delivery) arrive(p *posting, jid xmpp.JID) {
	a := d.account(jid)
	st := p.copyFor(jid).Stored(p.seq)
	a.mu.Lock()
	to := a.arrived(p, st)
	a.release()
	if p.by == nil {
		for _, f := range d.onMessage {
			f(jid, st, to)
		}
	}
}

// arrived finds the resources that are there, and posts to them; with the lock.
func (a *account) arrived(p *posting, st *xmpp.Stanza) (to []*xmpp.Session) {
	r := a.d.r
	if p.role&store.Owed != 0 && p.seq <= a.cursor.top { // read from the store just now: it is handed over as what came before
		a.assign(nil)
		if it := a.cursor.find(p.seq); it != nil {
			to = slices.Clone(it.with)
		}
		return to
	}
	if !p.direct.IsZero() && r.SessionOf(p.direct) == nil {
		p.direct = xmpp.JID{}
	}
	it := item{seq: p.seq, size: len(p.st.Raw)}
	for _, s := range r.Sessions(a.jid) {
		w := a.d.way(p, s)
		if w == notAtAll {
			continue
		}
		if !a.behind(s, p, w) {
			a.post(s, w.wrapped(st, s, true))
		}
		to = append(to, s)
		switch {
		case w == directly, isTarget(s):
			it.with = append(it.with, s)
		case it.copied == nil:
			it.copied = map[*xmpp.Session]bool{s: false}
		default:
			it.copied[s] = false
		}
	}
	if p.role&store.Owed != 0 {
		a.cursor.add(it)
		if len(it.with) == 0 {
			a.assign(nil)
		}
	}
	return to
}
