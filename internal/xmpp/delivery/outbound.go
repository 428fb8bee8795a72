package delivery

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// leaves looks at what a session sends to others, and tells whether any of it is stored.
func (d *Delivery) leaves(rq *xmpp.Request) bool {
	n := &seen{st: d.cleaned(rq.Stanza)}
	n.traits = look(n.st)
	rq.Note = n
	if !n.traits.stored() {
		return false
	}
	d.note(rq.Session.JID.Bare(), n.st.To, n)
	if to := rq.Account(); d.r.Exists(to) {
		d.account(to) // the transaction looks at what memory knows of it
	}
	return true
}

// outbound takes what a session sends to others and nobody stores.
func (d *Delivery) outbound(rq *xmpp.Request) error {
	n := rq.Note.(*seen)
	d.note(rq.Session.JID.Bare(), n.st.To, n)
	p := n.posting()
	d.copySent(rq.Session, p)
	rq.Send(p.st)
	return nil
}

// outboundTx stores what a session sends to others, once for all: the sender's archive, a recipient of ours, or the server that it is owed to.
func (d *Delivery) outboundTx(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	return d.send(tx, out, rq.Session, rq.Note.(*seen).posting())
}

func (d *Delivery) send(tx *store.Tx, out *xmpp.Out, s *xmpp.Session, p *posting) error {
	sender, to := s.JID.Bare(), p.st.To
	local := d.r.IsLocal(to.Domain)
	if !local && p.traits.relayed {
		if err := out.MayOwe(p.st); err != nil {
			return err
		}
	}
	if p.traits.archived && d.archives(tx, sender, to) {
		p.own(sender, to.Bare(), store.Archived|store.ByOwner)
	}
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
	out.After(func() { d.copySent(s, p) })
	return nil
}
