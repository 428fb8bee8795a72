package presence

import (
	"encoding/json"

	"pibox/internal/xmpp"
)

// kept is what a restart of the box must not forget of a session that outlives it: who got directed presence and is to be told of its end.
type kept struct {
	Directed []string `json:"directed"`
}

func (p *Presence) save(s *xmpp.Session) []byte {
	st := p.state(s, false)
	if st == nil {
		return nil
	}
	var k kept
	p.mu.Lock()
	for to := range st.directed {
		k.Directed = append(k.Directed, to.String())
	}
	p.mu.Unlock()
	if len(k.Directed) == 0 {
		return nil
	}
	raw, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings
	}
	return raw
}

// restore takes up a session of the last run. Its contacts know that it is available; those on other servers may have changed theirs while the
// box was off, and are asked.
func (p *Presence) restore(s *xmpp.Session, saved []byte) {
	now, _ := s.Presence()
	if now == nil && saved == nil {
		return
	}
	st := p.state(s, true)
	var k kept
	if saved != nil {
		if err := json.Unmarshal(saved, &k); err != nil {
			p.r.Log.Error("presence: what was kept of a session", "conn", s.ConnID, "error", err)
		}
	}
	for _, to := range k.Directed {
		if j, err := xmpp.ParseJID(to); err == nil {
			p.note(st, j)
		}
	}
	if now == nil {
		return
	}
	c, err := p.contacts(p.r.Store.View, s.JID.Bare())
	if err != nil {
		p.r.Log.Error("presence: reading the roster", "conn", s.ConnID, "error", err)
		return
	}
	st.turn.Lock()
	st.told = c.from
	st.turn.Unlock()
	for _, to := range c.to {
		if !p.r.IsLocal(to.Domain) {
			p.r.SendFor(s, p.probeFor(s, to))
		}
	}
}
