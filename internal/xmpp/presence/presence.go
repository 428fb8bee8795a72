// Package presence exchanges presence information (RFC 6121 §4 and its part of §8.5): broadcast, probes, directed presence, and
// unavailable presence for lost connections. It reads the roster's records to know who may see whom and writes nothing but
// when an account was last seen.
//
// Invariant: while a session's presence is read and sent on, its turn is held, so that nobody who is told twice at the same time gets the
// older presence last. What runs within a turn (filters, inbound handlers, hooks of Router.OnPresence) must not call Announce's or
// Withdraw's effects nor route a probe.
package presence

import (
	"strings"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Options and limits, with their defaults.
type Options struct {
	// MaxDirected is to how many addresses outside its roster one session may have sent directed presence, rooms
	// for instance. Default 1000. Beyond it the sender gets resource-constraint.
	MaxDirected int
	// MaxBytes bounds one broadcast, which goes to every contact and is kept while the resource is available. Default 32
	// KiB. A longer one gets policy-violation.
	MaxBytes int
}

// Presence is the feature.
type Presence struct {
	r   *xmpp.Router
	opt Options

	mu       sync.Mutex
	sessions map[*xmpp.Session]*state
}

// state of a session that sent presence.
type state struct {
	turn sync.Mutex // taken before Presence.mu
	// told are the contacts who know the session as available; guarded by turn. Between the commit that ends a subscription and its effect
	// they are in no roster any more, and still are to hear of a session that ends just then.
	told     []xmpp.JID
	directed map[xmpp.JID]struct{} // who got directed presence and is to be told of its end; guarded by Presence.mu
}

// Register hangs presence on the router.
func Register(r *xmpp.Router, opt Options) *Presence {
	if opt.MaxDirected <= 0 {
		opt.MaxDirected = 1000
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 32 << 10
	}
	p := &Presence{r: r, opt: opt, sessions: map[*xmpp.Session]*state{}}
	on := func(c xmpp.Class, typ string, h xmpp.Handler) {
		r.Handle(xmpp.Key{Class: c, Kind: xmpp.Presence, Type: typ}, h)
	}
	on(xmpp.Broadcast, "", p.available)
	on(xmpp.Broadcast, "unavailable", p.unavailable)
	on(xmpp.Broadcast, "*", unknownType)
	on(xmpp.Outbound, "", p.direct)
	on(xmpp.Outbound, "unavailable", p.direct)
	on(xmpp.Outbound, "*", p.other)
	for _, typ := range []string{"", "unavailable", "error"} {
		on(xmpp.ToAccount, typ, p.toAccount)
		on(xmpp.ToResource, typ, p.toResource)
	}
	on(xmpp.ToAccount, "probe", p.probe)
	on(xmpp.ToResource, "probe", p.probeResource)
	on(xmpp.ToNobody, "probe", p.probeNobody)
	on(xmpp.ToAccount, "*", unknownType)
	on(xmpp.ToResource, "*", unknownType)
	for _, typ := range []string{"get", "set"} {
		r.Handle(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.IQ, Type: typ}, p.iqToResource)
	}
	r.OnUnbind(p.lost)
	r.Keep("presence", p.save, p.restore)
	return p
}

// unknownType is RFC 6121 §4.7.1.
func unknownType(*xmpp.Request) error {
	return xmpp.Errorf(stanza.BadRequest, "presence has no such type here")
}

// other lets errors and probes of clients go on (RFC 6121 §4.3: a probe alone is no reason for an error).
func (p *Presence) other(rq *xmpp.Request) error {
	if rq.Type != "error" && rq.Type != "probe" {
		return unknownType(rq)
	}
	rq.Send(rq.Stanza)
	return nil
}

// state gives the session's state; made where there is none, or nil.
func (p *Presence) state(s *xmpp.Session, made bool) *state {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.sessions[s]
	if st == nil && made {
		st = &state{directed: map[xmpp.JID]struct{}{}}
		p.sessions[s] = st
	}
	return st
}

// take takes the turn of a session that is to send presence; nil when it is not bound any more, as what it sends now would not be
// taken back.
func (p *Presence) take(s *xmpp.Session) *state {
	st := p.state(s, true)
	st.turn.Lock()
	if p.bound(s) {
		return st
	}
	st.turn.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, _ := s.Presence(); now == nil && len(st.directed) == 0 {
		delete(p.sessions, s)
	}
	return nil
}

// bound tells whether the session still is its resource's.
func (p *Presence) bound(s *xmpp.Session) bool { return p.r.SessionOf(s.JID) == s }

// contacts are the roster's entries as far as presence goes.
type contacts struct {
	from []xmpp.JID // who may see the account's presence
	to   []xmpp.JID // whose presence the account may see
}

func (p *Presence) contacts(view func(func(*store.Tx) error) error, account xmpp.JID) (c contacts, err error) {
	err = view(func(tx *store.Tx) (err error) {
		c, err = readContacts(tx, account)
		return err
	})
	return c, err
}

func readContacts(tx *store.Tx, account xmpp.JID) (c contacts, err error) {
	prefix := store.Key(account.String(), "")
	for key, item := range store.Roster.All(tx, account.String()) {
		if item.Removed || !item.Sub.To() && !item.Sub.From() {
			continue
		}
		j, err := xmpp.ParseJID(strings.TrimPrefix(key, prefix))
		if err != nil {
			return c, err
		}
		if item.Sub.From() {
			c.from = append(c.from, j)
		}
		if item.Sub.To() {
			c.to = append(c.to, j)
		}
	}
	return c, nil
}
