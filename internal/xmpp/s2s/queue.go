package s2s

import (
	"errors"
	"time"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

const (
	itemCost   = 256              // memory of a queued stanza beside its bytes
	delayAfter = 10 * time.Second // what waited for so long tells since when (XEP-0203)
	nsDelay    = "urn:xmpp:delay"
)

// item is a stanza on its way out.
type item struct {
	st     *xmpp.Stanza
	at     time.Time // when it was stored, if it is
	until  time.Time // then it comes back
	tries  int       // how often a connection was lost within it, or with it as the first that was not known to have arrived
	faults int       // how often the peer ended the stream with an error then
	again  bool      // it may have arrived already
}

func (i item) cost() int { return len(i.st.Raw) + itemCost }

func (i item) stored() bool { return i.st.Seq != 0 }

// wire is what is written.
func (i item) wire(now time.Time) []byte {
	st := i.st
	if !i.stored() || st.Kind != xmpp.Message {
		return st.Raw
	}
	if now.Sub(i.at) >= delayAfter && !st.HasChild(nsDelay, "delay") {
		stamp := i.at.UTC().Format("2006-01-02T15:04:05.000Z")
		st = st.Edited(st.WithChild(xmpp.NewXMLNS("delay", nsDelay).Attr("from", st.From.Domain).Attr("stamp", stamp).Bytes()))
	}
	if i.again {
		st = st.Again()
	}
	return st.Raw
}

// Send queues a stanza for another server. It never blocks; what can not be delivered comes back through Router.Bounce, or, where it is
// stored, by a transaction that ends what is owed.
func (s *Server) Send(st *xmpp.Stanza) {
	p := pair{st.From.Domain, st.To.Domain}
	if st.From.IsZero() || st.To.IsZero() || !s.router.IsLocal(p.local) || s.router.IsLocal(p.remote) {
		s.log.Error("a stanza was to leave for another server that must not", "kind", st.Name, "local", p.local, "remote", p.remote)
		return
	}
	if st.Seq != 0 {
		back, owed := s.sendOwed(p, st)
		s.bounce(back)
		if owed {
			return
		}
		s.log.Error("a stored stanza for another server is not owed", "local", p.local, "remote", p.remote, "seq", st.Seq)
		st = st.Stored(0)
	}
	if permit := s.policy.of(p.remote); !permit.talk {
		s.router.Bounce(st, xmpp.Errorf(stanza.NotAllowed, "%s", permit.why))
		return
	}
	if err := s.enqueue(p, st); err != nil {
		s.router.Bounce(st, err)
	}
}

func (s *Server) enqueue(p pair, st *xmpp.Stanza) *xmpp.StanzaError {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	now := time.Now()
	it := item{st: st, until: now.Add(s.opt.QueueTime)}
	switch {
	case s.stopping:
		return xmpp.Errorf(stanza.RemoteServerTimeout, "this server is shutting down")
	case l == nil && !s.makeRoom():
		return tooMany()
	case l == nil:
		l = s.newLink(p)
	}
	l.hurry()
	if l.stream == nil && l.failure != nil && l.failure.lasting && now.Before(l.retryAt) {
		return l.failure.stanzaError(p.remote)
	}
	if l.bytes+it.cost() > s.opt.QueueBytes && l.bytes > 0 || s.queued+it.cost() > s.opt.QueueTotal {
		return xmpp.Errorf(stanza.ResourceConstraint, "too much is waiting for %s", p.remote)
	}
	s.push(l, it, now)
	return nil
}

// Recall implements [xmpp.RecallingRemote].
func (s *Server) Recall(st *xmpp.Stanza) (unsent int, why *xmpp.StanzaError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[pair{st.From.Domain, st.To.Domain}]
	if l == nil {
		return 0, nil
	}
	back := s.drain(l, func(it item) *xmpp.StanzaError {
		if q := it.st; it.stored() || q.Kind != st.Kind || q.ID != st.ID || q.Type != st.Type || q.From != st.From || q.To != st.To {
			return nil
		}
		return l.failure.stanzaError(l.pair.remote)
	})
	for _, b := range back {
		if !b.again {
			unsent++
		}
	}
	s.rest(l)
	return unsent, l.failure.stanzaError(l.pair.remote)
}

func tooMany() *xmpp.StanzaError {
	return xmpp.Errorf(stanza.ResourceConstraint, "too many other servers at the same time")
}

// sendOwed queues a stored stanza, where it is its turn: else it is read from the log later, or was already.
func (s *Server) sendOwed(p pair, st *xmpp.Stanza) (back []bounced, isOwed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	if l == nil {
		return nil, false
	}
	d := &l.debt
	o := d.find(st.Seq)
	if o == nil || o.state != expected {
		return nil, o != nil || d.behind || st.Seq <= d.read
	}
	now := time.Now()
	it := item{st: st, at: now, until: now.Add(s.opt.DurableTime)}
	o.state = here
	l.hurry()
	if e := s.hopeless(l, it); e != nil {
		return []bounced{{l, it, e}}, true
	}
	switch {
	case s.stopping:
	case d.unread > 0 || !s.room(l, it):
		o.state = unread
		d.unread++
		s.kick(l)
	default:
		s.push(l, it, now)
	}
	return nil, true
}

// room tells whether there is memory for a stored stanza: half of it is left to the others, which are nowhere else.
func (s *Server) room(l *link, it item) bool {
	return l.bytes == 0 || l.bytes+it.cost() <= s.opt.QueueBytes/2 && s.queued+it.cost() <= s.opt.QueueTotal/2
}

// hopeless is why a stored stanza need not be tried. Called with the lock.
func (s *Server) hopeless(l *link, it item) *xmpp.StanzaError {
	permit := s.policy.of(l.pair.remote)
	now := time.Now()
	switch {
	case !permit.talk:
		return xmpp.Errorf(stanza.NotAllowed, "%s", permit.why)
	case s.router.IsLocal(l.pair.remote), !s.router.IsLocal(l.pair.local):
		return xmpp.Errorf(stanza.RemoteServerNotFound, "%s and %s are not two servers any more", l.pair.local, l.pair.remote)
	case l.refused:
		return tooMany()
	case !now.Before(it.until):
		return l.failure.stanzaError(l.pair.remote)
	case l.nowhere(now) && l.gone(it, now):
		return l.failure.stanzaError(l.pair.remote)
	}
	return nil
}

// nowhere tells that the DNS has just said that the other domain is not there.
func (l *link) nowhere(now time.Time) bool {
	return l.stream == nil && l.failure != nil && now.Before(l.retryAt) && l.failure.condition == stanza.RemoteServerNotFound && isNotFound(l.failure.err)
}

// gone tells whether a domain that is not in the DNS is taken for none: at once when somebody wrote to one that was never reached, a slip of the
// pen; one that was, or whose messages wait, may come back for a while.
func (l *link) gone(it item, now time.Time) bool {
	return !l.reached && now.Sub(it.at) < freshTime || now.Sub(l.missing) >= goneTime
}

// push puts a stanza in the queue; called with the lock.
func (s *Server) push(l *link, it item, now time.Time) {
	l.used = now
	l.queue = append(l.queue, it)
	s.charge(l, it)
	s.remind(l, it.until)
	s.kick(l)
}

// shift takes the first stanza out of the queue; its memory still counts. Called with the lock.
func (s *Server) shift(l *link) item {
	it := l.queue[0]
	l.queue[0] = item{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return it
}

// charge accounts for a stanza's memory; called with the lock.
func (s *Server) charge(l *link, it item) {
	l.bytes += it.cost()
	s.queued += it.cost()
}

// release ends the account of a stanza's memory; called with the lock.
func (s *Server) release(l *link, it item) {
	l.bytes -= it.cost()
	s.queued -= it.cost()
}

// bounced is a stanza that can not be delivered.
type bounced struct {
	link *link
	item
	err *xmpp.StanzaError
}

// bounce returns stanzas to their senders.
func (s *Server) bounce(back []bounced) {
	if len(back) == 0 {
		return
	}
	p := back[0].link.pair
	s.log.Info("stanzas for another server come back", "local", p.local, "remote", p.remote, "stanzas", len(back), "reason", back[0].err.Condition)
	var stored []bounced
	for _, b := range back {
		if b.stored() {
			stored = append(stored, b)
			continue
		}
		s.router.Bounce(b.st, b.err)
	}
	s.writeOff(stored)
}

// drain takes everything out of the queue that f gives an error for; called with the lock.
func (s *Server) drain(l *link, f func(it item) *xmpp.StanzaError) (back []bounced) {
	kept := l.queue[:0]
	for _, it := range l.queue {
		if e := f(it); e != nil {
			s.release(l, it)
			back = append(back, bounced{l, it, e})
			continue
		}
		kept = append(kept, it)
	}
	clear(l.queue[len(kept):])
	if l.queue = kept; len(kept) == 0 {
		l.queue = nil
	}
	return back
}

// expire gives back what waited too long, and forgets a link that nothing happens with.
func (s *Server) expire(l *link) {
	s.mu.Lock()
	now := time.Now()
	l.alarm = time.Time{}
	late := func(it item) *xmpp.StanzaError {
		if now.Before(it.until) {
			return nil
		}
		return l.failure.stanzaError(l.pair.remote)
	}
	back := s.drain(l, late)
	if m := l.lost; m != nil {
		back = append(back, s.expireLost(l, m, now)...)
	}
	for i := range l.debt.open {
		if o := &l.debt.open[i]; o.state == expected && now.Sub(o.since) >= expectTime {
			o.state = unread
			l.debt.unread++
		}
	}
	if l.debt.unread > 0 || l.debt.behind {
		s.kick(l)
	}
	l.signal()
	s.again(l)
	s.rest(l)
	s.mu.Unlock()
	s.bounce(back)
}

// again sets the link's alarm for what waits.
func (s *Server) again(l *link) {
	for _, it := range l.queue {
		s.remind(l, it.until)
	}
	for _, o := range l.debt.open {
		if o.state == expected {
			s.remind(l, o.since.Add(expectTime))
			break
		}
	}
	if m := l.lost; m != nil {
		s.remind(l, m.until)
		for _, e := range m.sent {
			if !e.stored() && !e.over {
				s.remind(l, e.until)
			}
		}
	}
}

// expireLost looks after what waits for a stream to be resumed. A stanza that comes back keeps its place, because places count.
func (s *Server) expireLost(l *link, m *management, now time.Time) (back []bounced) {
	if !now.Before(m.until) {
		l.lost = nil
		return s.abandon(m)
	}
	for i := range m.sent {
		e := &m.sent[i]
		if e.stored() || e.over || now.Before(e.until) {
			continue
		}
		e.over = true
		back = append(back, bounced{l, e.item, l.failure.stanzaError(l.pair.remote)})
	}
	return back
}

// remind has expire called at a time, or before. Called with the lock.
func (s *Server) remind(l *link, at time.Time) {
	if l.alarm.IsZero() || at.Before(l.alarm) {
		l.alarm = at
		l.timer.Reset(time.Until(at))
	}
}

// rest forgets a link that nothing happens with, now or later; called with the lock.
func (s *Server) rest(l *link) {
	if len(l.queue) > 0 || l.running || l.stream != nil || l.ending != nil || l.lost != nil || l.debt.active() {
		return
	}
	if at := l.retryAt.Add(linkForgets); time.Now().Before(at) {
		s.remind(l, at)
		return
	}
	l.timer.Stop()
	if s.links[l.pair] == l {
		delete(s.links, l.pair)
	}
}

// blames tells whether the end of a stream speaks against the first stanza that was not acknowledged: the peer says that something was
// wrong. Of what passes, the connection and the stanza are innocent.
func blames(why error) bool {
	var pe *peerError
	return errors.As(why, &pe) && !passing(pe.condition)
}

func passing(condition string) bool {
	switch condition {
	case "system-shutdown", "connection-timeout", "internal-server-error", "resource-constraint", "reset", "remote-connection-failed", "conflict":
		return true
	}
	return false
}
