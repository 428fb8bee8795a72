package presence

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// available is initial presence (RFC 6121 §4.2.2) and each later broadcast (§4.4.2).
func (p *Presence) available(rq *xmpp.Request) error {
	if len(rq.Raw) > p.opt.MaxBytes {
		return xmpp.Errorf(stanza.PolicyViolation, "presence of more than %d bytes is not broadcast", p.opt.MaxBytes)
	}
	prio, err := priority(rq.Stanza)
	if err != nil {
		return err
	}
	s := rq.Session
	c, initial, err := p.broadcast(rq, prio)
	if err != nil || !initial {
		return err
	}
	for _, other := range p.r.Available(s.JID.Bare()) { // an entity sees its own presence
		if other != s {
			p.show(other, s.JID, func(_ *xmpp.Session, st *xmpp.Stanza) { s.Deliver(st) })
		}
	}
	for _, to := range c.to {
		p.r.SendFor(s, p.probeFor(s, to))
	}
	return nil
}

func (p *Presence) broadcast(rq *xmpp.Request, prio int8) (c contacts, initial bool, err error) {
	s, account := rq.Session, rq.Session.JID.Bare()
	st := p.take(s)
	if st == nil {
		return c, false, nil
	}
	defer st.turn.Unlock()
	if c, err = p.contacts(rq.View, account); err != nil {
		return c, false, err
	}
	old, _ := s.Presence()
	p.r.SetPresence(s, rq.Stanza, prio)
	st.told = union(c.from, st.told)
	own := rq.Addressed(s.JID, account)
	for _, a := range p.r.Available(account) {
		a.Deliver(own)
	}
	for _, to := range c.from {
		p.r.SendFor(s, rq.Addressed(s.JID, to))
	}
	return c, old == nil, nil
}

// probeFor asks for a contact's presence (RFC 6121 §4.3.1). A contact of this box answers the new resource alone.
func (p *Presence) probeFor(s *xmpp.Session, to xmpp.JID) *xmpp.Stanza {
	from := s.JID.Bare()
	if p.r.IsLocal(to.Domain) {
		from = s.JID
	}
	return xmpp.Make(xmpp.NewXML("presence").Attr("type", "probe").Attr("from", from.String()).Attr("to", to.String()).Bytes())
}

// priority is RFC 6121 §4.7.2.3: one integer from -128 to 127; none is zero.
func priority(st *xmpp.Stanza) (int8, error) {
	if !st.HasChild("", "priority") {
		return 0, nil
	}
	text, found := "", 0
	for _, n := range st.Node().Children {
		if n.Name == "priority" && n.NS == st.NS {
			text, found = n.Text, found+1
		}
	}
	if found == 0 {
		return 0, nil
	}
	v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 8)
	if err != nil || found > 1 {
		return 0, xmpp.Errorf(stanza.BadRequest, "a priority is one integer from -128 to 127")
	}
	return int8(v), nil
}

// lost sends unavailable presence for a session that ended (RFC 6121 §4.5.2), in the order of what it sent itself.
func (p *Presence) lost(s *xmpp.Session) {
	el, err := frame.Parse([]byte("<presence type='unavailable'/>"), xmpp.NSClient, frame.Limits{})
	if err != nil {
		panic(err) // of our own making
	}
	p.r.FromSession(s, el)
}

// unavailable ends a presence session (RFC 6121 §4.5.2): contacts, the account's own resources, and who got directed presence are told.
func (p *Presence) unavailable(rq *xmpp.Request) error {
	s, account := rq.Session, rq.Session.JID.Bare()
	st := p.state(s, true)
	st.turn.Lock()
	defer st.turn.Unlock()
	bound := p.bound(s)
	c, err := p.contacts(rq.View, account)
	if err != nil && bound {
		return err
	}
	old, _ := s.Presence()
	if old == nil {
		c.from = nil // they never saw it
	} else {
		p.r.SetPresence(s, nil, 0)
		p.own(rq, bound)
	}
	from := union(c.from, st.told)
	st.told = nil
	for _, to := range p.recipients(st, from) {
		p.r.SendFor(s, rq.Addressed(s.JID, to))
	}
	if !bound {
		p.mu.Lock()
		delete(p.sessions, s)
		p.mu.Unlock()
	}
	if old != nil && len(p.r.Available(account)) == 0 {
		p.remember(account, rq.Stanza)
	}
	return nil
}

// own tells the account's other available resources, and the one that went where it still is connected.
func (p *Presence) own(rq *xmpp.Request, bound bool) {
	account := rq.Session.JID.Bare()
	st := rq.Addressed(rq.Session.JID, account)
	for _, s := range p.r.Available(account) {
		s.Deliver(st)
	}
	if bound {
		rq.Session.Deliver(st)
	}
}

// union is a with those of b that it lacks; a itself where that is none.
func union(a, b []xmpp.JID) []xmpp.JID {
	if len(b) == 0 || slices.Equal(a, b) {
		return a
	}
	has := make(map[xmpp.JID]bool, len(a))
	for _, j := range a {
		has[j] = true
	}
	for _, j := range b {
		if !has[j] {
			a = append(a, j)
		}
	}
	return a
}

// recipients are contacts and whoever else got directed presence, once each; the list of the latter is emptied.
func (p *Presence) recipients(st *state, from []xmpp.JID) []xmpp.JID {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := make(map[xmpp.JID]bool, len(from)+len(st.directed))
	for _, j := range from {
		to[j] = true
	}
	for j := range st.directed {
		if _, bare := st.directed[j.Bare()]; !to[j.Bare()] && (j.IsBare() || !bare) {
			to[j] = true
		}
	}
	clear(st.directed)
	return slices.SortedFunc(maps.Keys(to), func(a, b xmpp.JID) int { return cmp.Compare(a.String(), b.String()) })
}

// maxStatus bounds the status that is kept with when an account was last seen, in bytes.
const maxStatus = 1023

// remember writes when an account was last seen: once each time that its last resource goes, because cards wear out.
func (p *Presence) remember(account xmpp.JID, st *xmpp.Stanza) {
	last := store.Last{At: time.Now().UTC()}
	if st.HasChild("", "status") {
		last.Status = st.Node().ChildText(st.NS, "status")
		if len(last.Status) > maxStatus {
			last.Status = strings.ToValidUTF8(last.Status[:maxStatus], "")
		}
	}
	p.r.Submit(len(last.Status), func(tx *store.Tx, _ *xmpp.Out) error {
		store.LastSeen.Put(tx, account.String(), last)
		return nil
	}, nil)
}
