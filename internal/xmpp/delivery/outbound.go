package delivery

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// outbound takes what a session sends to others. What is stored for anybody is stored in one transaction for all: the sender's archive, a recipient of
// ours, or the server that it is owed to.
func (d *Delivery) outbound(rq *xmpp.Request) error {
	s := rq.Session
	p := newPosting(d.cleaned(rq.Stanza))
	d.note(s.JID.Bare(), p.st.To, p)
	if !p.traits.stored() {
		d.copySent(s, p)
		rq.Send(p.st)
		return nil
	}
	if to := rq.Account(); d.r.Exists(to) {
		d.account(to) // the transaction looks at what memory knows of it
	}
	st, traits := p.st, p.traits
	d.r.Commit(rq, func(tx *store.Tx, out *xmpp.Out, _ *xmpp.Request) error {
		return d.send(tx, out, s, &posting{st: st, traits: traits})
	}, nil)
	return nil
}

func (d *Delivery) send(tx *store.Tx, out *xmpp.Out, s *xmpp.Session, p *posting) error {
	sender, to := s.JID.Bare(), p.st.To
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
	out.After(func() { d.copySent(s, p) })
	return nil
}
