package presence

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Announce sends, as an effect, the presence of each available resource to a contact who may see it from now on (RFC 6121 §3.1.5).
func (p *Presence) Announce(out *xmpp.Out, account, to xmpp.JID) {
	out.After(func() {
		for _, s := range p.r.Available(account) {
			p.show(s, to, out.EmitFor)
		}
	})
}

// Withdraw sends, as an effect, unavailable presence from each available resource to a contact who may not see it any more
// (RFC 6121 §3.2.2), also where he got directed presence (§4.6.1).
func (p *Presence) Withdraw(out *xmpp.Out, account, from xmpp.JID) {
	out.After(func() { p.hide(account, from, out.EmitFor) })
}

// Block sends, as an effect, unavailable presence to whom a new entry of the block list covers, as far as he got presence (XEP-0191
// §3.3). It passes the outbound filters, which refuse presence to him already.
func (p *Presence) Block(tx *store.Tx, out *xmpp.Out, account, entry xmpp.JID) error {
	c, err := readContacts(tx, account)
	if err != nil {
		return err
	}
	out.After(func() {
		for _, to := range covered(entry, c.from) {
			p.hide(account, to, func(_ *xmpp.Session, st *xmpp.Stanza) { out.Emit(st) })
		}
		for _, s := range p.r.Sessions(account) {
			for _, to := range p.takeCovered(s, entry) {
				out.Emit(gone(s, to))
			}
		}
	})
	return nil
}

// Unblock shows, as an effect, presence again to contacts whom an entry that left the block list covered, and asks for
// theirs (XEP-0191 §3.4).
func (p *Presence) Unblock(tx *store.Tx, out *xmpp.Out, account, entry xmpp.JID) error {
	c, err := readContacts(tx, account)
	if err != nil {
		return err
	}
	out.After(func() {
		sessions := p.r.Available(account)
		for _, to := range covered(entry, c.from) {
			for _, s := range sessions {
				p.show(s, to, out.EmitFor)
			}
		}
		for _, to := range covered(entry, c.to) {
			for _, s := range sessions {
				out.EmitFor(s, p.probeFor(s, to))
				if !p.r.IsLocal(to.Domain) {
					break // asked from the bare JID, answered to all
				}
			}
		}
	})
	return nil
}

// show sends a session's current presence to somebody.
func (p *Presence) show(s *xmpp.Session, to xmpp.JID, send func(*xmpp.Session, *xmpp.Stanza)) {
	st := p.state(s, false)
	if st == nil {
		return
	}
	st.turn.Lock()
	defer st.turn.Unlock()
	if now, _ := s.Presence(); now != nil {
		if who := to.Bare(); who != s.JID.Bare() && !slices.Contains(st.told, who) {
			st.told = append(st.told, who)
		}
		send(s, now.Addressed(s.JID, to))
	}
}

func (p *Presence) hide(account, from xmpp.JID, send func(*xmpp.Session, *xmpp.Stanza)) {
	for _, s := range p.r.Sessions(account) {
		st := p.state(s, false)
		if st == nil {
			continue
		}
		st.turn.Lock()
		if now, _ := s.Presence(); now != nil || p.knows(s, from, false) {
			send(s, gone(s, from))
		}
		p.forget(from, s)
		st.told = slices.DeleteFunc(st.told, func(j xmpp.JID) bool { return j == from })
		st.turn.Unlock()
	}
}

func gone(s *xmpp.Session, to xmpp.JID) *xmpp.Stanza {
	return xmpp.Make(xmpp.NewXML("presence").Attr("type", "unavailable").Attr("from", s.JID.String()).Attr("to", to.String()).Bytes())
}

// covered are the contacts that an entry of a block list stands for; of one whose full JID is blocked, that.
func covered(entry xmpp.JID, contacts []xmpp.JID) []xmpp.JID {
	var out []xmpp.JID
	for _, c := range contacts {
		switch {
		case entry.Covers(c):
			out = append(out, c)
		case entry.Local != "" && entry.Bare() == c:
			out = append(out, entry)
		}
	}
	return out
}

// takeCovered takes out of a session's list of directed presence whom an entry covers.
func (p *Presence) takeCovered(s *xmpp.Session, entry xmpp.JID) []xmpp.JID {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.sessions[s]
	if st == nil {
		return nil
	}
	var out []xmpp.JID
	for j := range st.directed {
		if entry.Covers(j) {
			out = append(out, j)
			delete(st.directed, j)
		}
	}
	return out
}
