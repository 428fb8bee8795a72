package delivery

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// leaves looks at what a session sends to others, and tells whether any of it is stored.
func (d *Delivery) leaves(rq *xmpp.Request) bool {
	p := posting{st: d.cleaned(rq.Stanza)}
	p.traits = look(p.st)
	if !p.traits.stored() {
		return false
	}
	d.note(rq.Session.JID.Bare(), p.st.To, &p)
	if to := rq.Account(); d.r.Exists(to) {
		d.account(to) // the transaction looks at what memory knows of it
	}
	rq.Note = &seen{st: p.st, traits: p.traits}
	return true
}

// outbound takes what a session sends to others and nobody stores.
func (d *Delivery) outbound(rq *xmpp.Request) error {
	p := posting{st: d.cleaned(rq.Stanza)}
	p.traits = look(p.st)
	d.note(rq.Session.JID.Bare(), p.st.To, &p)
	d.copySent(rq.Session.JID.Bare(), rq.Session, &p)
	rq.Send(p.st)
	return nil
}

// outboundTx stores what a session sends to others, once for all: the sender's archive, a recipient of ours, or the server that it is owed to.
func (d *Delivery) outboundTx(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	return d.send(tx, out, rq.Session.JID.Bare(), rq.Session, rq.Note.(*seen).posting())
}

// Say sends a message in the name of an account of ours, within a transaction, as one of its devices would.
func (d *Delivery) Say(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza) error {
	return d.send(tx, out, st.From.Bare(), nil, newPosting(st))
}

// send: by is the session that sent it; nil: the box did.
func (d *Delivery) send(tx *store.Tx, out *xmpp.Out, sender xmpp.JID, by *xmpp.Session, p *posting) error {
	to := p.st.To
	if p.traits.archived && d.archives(tx, sender, to) {
		p.own(sender, to.Bare(), store.Archived|store.ByOwner)
	}
	local := d.r.IsLocal(to.Domain)
	if local {
		out.SendNoted(p.st, p) // inboundTx makes the recipient an owner
	} else {
		p.entry.Remote = p.traits.relayed
	}
	p.append(tx)
	d.persist(tx, sender)
	if !local {
		if p.entry.Remote {
			out.Owe(p.st, p.seq)
		}
		out.Send(p.st.Stored(p.seq))
	}
	out.After(func() { d.copySent(sender, by, p) })
	return nil
}
