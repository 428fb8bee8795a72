package presence

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// direct is presence that a session sends to an address (RFC 6121 §4.6.3).
func (p *Presence) direct(rq *xmpp.Request) error {
	s := rq.Session
	st := p.take(s)
	if st == nil {
		return nil
	}
	defer st.turn.Unlock()
	if rq.Type == "unavailable" {
		p.mu.Lock()
		delete(st.directed, rq.To)
		p.mu.Unlock()
		rq.Send(rq.Stanza)
		return nil
	}
	var contact bool
	if err := rq.View(func(tx *store.Tx) error {
		contact = xmpp.MaySee(tx, s.JID.Bare(), rq.To)
		return nil
	}); err != nil {
		return err
	}
	// Contacts are told by broadcast when the resource goes, if it ever sent one (rule 1); all others from the list (rules 2 and 3).
	if now, _ := s.Presence(); !contact || now == nil {
		if !p.note(st, rq.To) {
			return xmpp.Errorf(stanza.ResourceConstraint, "presence was sent to too many addresses")
		}
	}
	rq.Send(rq.Stanza)
	return nil
}

func (p *Presence) note(st *state, to xmpp.JID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := st.directed[to]; !ok && len(st.directed) >= p.opt.MaxDirected {
		return false
	}
	st.directed[to] = struct{}{}
	return true
}

// forget takes who went away out of the lists of who is to be told (RFC 6121 §4.6.1).
func (p *Presence) forget(from xmpp.JID, sessions ...*xmpp.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sessions {
		st := p.sessions[s]
		if st == nil {
			continue
		}
		delete(st.directed, from)
		if from.IsBare() {
			for j := range st.directed {
				if j.Bare() == from {
					delete(st.directed, j)
				}
			}
		}
	}
}

// knows tells whether the session sent directed presence to an address; whole also to another one with its bare JID, as to
// a room for its occupants.
func (p *Presence) knows(s *xmpp.Session, who xmpp.JID, whole bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.sessions[s]
	if st == nil {
		return false
	}
	for j := range st.directed {
		if j == who || j == who.Bare() || whole && j.Bare() == who.Bare() {
			return true
		}
	}
	return false
}

// OneOccupant tells whether two sessions are the same occupant of a room, as far as their presence says: they sent it to one address there, which is
// the room's with the nick.
func (p *Presence) OneOccupant(a, b *xmpp.Session, room xmpp.JID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, y := p.sessions[a], p.sessions[b]
	if x == nil || y == nil {
		return false
	}
	for to := range x.directed {
		if _, both := y.directed[to]; both && !to.IsBare() && to.Bare() == room {
			return true
		}
	}
	return false
}
