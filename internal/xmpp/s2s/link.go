package s2s

import (
	"context"
	"errors"
	"time"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

const (
	batchBytes  = 64 << 10 // written at once, unless one stanza is larger
	itemCost    = 256      // memory of a queued stanza beside its bytes
	backoffMin  = time.Second
	backoffMax  = time.Minute
	maxTries    = 3           // connections that one stanza may cost: it may be what the peer ends them for
	linkForgets = time.Minute // after the back-off: a failure that long ago does not count
)

// link is what goes out for one pair of domains. Everything is guarded by the server's lock.
type link struct {
	pair    pair
	queue   []item
	bytes   int
	used    time.Time // when something was queued last
	running bool      // a goroutine writes or connects
	stream  *stream   // nil: not connected
	wake    chan struct{}
	connect context.CancelFunc // ends the attempt to connect; nil while there is none
	timer   *time.Timer

	fails   int
	retryAt time.Time
	failure *failure // of the last attempt
}

type item struct {
	st    *xmpp.Stanza
	until time.Time
	tries int // how often a connection was lost within it
}

func (i item) cost() int { return len(i.st.Raw) + itemCost }

// failure is why a peer can not be reached.
type failure struct {
	condition stanza.Condition // that the senders are told
	lasting   bool             // to try again soon is no use
	err       error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// asFailure: what is not known better may pass.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{condition: stanza.RemoteServerTimeout, err: err}
}

func (f *failure) stanzaError(domain string) *xmpp.StanzaError {
	if f == nil {
		return xmpp.Errorf(stanza.RemoteServerTimeout, "%s did not take it in time", domain)
	}
	if f.condition == stanza.RemoteServerNotFound {
		return xmpp.Errorf(f.condition, "the server of %s can not be found", domain)
	}
	return xmpp.Errorf(f.condition, "no connection to %s could be made", domain)
}

// Send queues a stanza for another server. It never blocks; what can not be delivered comes back through Router.Bounce.
func (s *Server) Send(st *xmpp.Stanza) {
	p := pair{st.From.Domain, st.To.Domain}
	if st.From.IsZero() || st.To.IsZero() || !s.router.IsLocal(p.local) || s.router.IsLocal(p.remote) {
		s.log.Error("a stanza was to leave for another server that must not", "kind", st.Name, "local", p.local, "remote", p.remote)
		return
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
		return xmpp.Errorf(stanza.ResourceConstraint, "too many other servers at the same time")
	case l == nil:
		l = s.newLink(p)
	case l.stream == nil && l.failure != nil && l.failure.lasting && now.Before(l.retryAt):
		return l.failure.stanzaError(p.remote)
	}
	if l.bytes+it.cost() > s.opt.QueueBytes && len(l.queue) > 0 || s.queued+it.cost() > s.opt.QueueTotal {
		return xmpp.Errorf(stanza.ResourceConstraint, "too much is waiting for %s", p.remote)
	}
	l.used = now
	l.queue = append(l.queue, it)
	l.bytes += it.cost()
	s.queued += it.cost()
	if !l.running {
		l.running = true
		s.wg.Add(1)
		go s.runLink(l)
	}
	s.schedule(l)
	return nil
}

// makeRoom tells whether there may be one more link. Of as many as there may be, the one that is unused for longest goes: nobody can shut others out
// by having us talk with a great many domains once. Called with the lock.
func (s *Server) makeRoom() bool {
	if len(s.links) < s.opt.Links {
		return true
	}
	var oldest *link
	for _, l := range s.links {
		if !l.running && len(l.queue) == 0 && (oldest == nil || l.used.Before(oldest.used)) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	oldest.timer.Stop()
	delete(s.links, oldest.pair)
	if t := oldest.stream; t != nil && !t.incoming {
		s.wg.Go(func() { t.end(nil) })
	}
	return true
}

// newLink is called with the lock.
func (s *Server) newLink(p pair) *link {
	l := &link{pair: p, wake: make(chan struct{}, 1)}
	l.timer = time.AfterFunc(s.opt.QueueTime, func() { s.expire(l) })
	s.links[p] = l
	return l
}

// schedule sets the link's timer to the next thing that time brings; called with the lock.
func (s *Server) schedule(l *link) {
	switch {
	case len(l.queue) > 0:
		l.timer.Reset(time.Until(l.queue[0].until))
	case !l.running && l.stream == nil:
		l.timer.Reset(time.Until(l.retryAt.Add(linkForgets)))
	}
}

// expire gives back what waited too long, and forgets a link that nothing happens with.
func (s *Server) expire(l *link) {
	s.mu.Lock()
	now := time.Now()
	var late []item
	for len(l.queue) > 0 && !now.Before(l.queue[0].until) {
		late = append(late, s.pop(l))
	}
	if len(l.queue) == 0 && !l.running && l.stream == nil && !now.Before(l.retryAt.Add(linkForgets)) {
		l.timer.Stop()
		if s.links[l.pair] == l {
			delete(s.links, l.pair)
		}
	} else {
		s.schedule(l)
	}
	f := l.failure
	s.mu.Unlock()
	s.bounce(l.pair, late, f)
}

// pop takes the first stanza out; called with the lock.
func (s *Server) pop(l *link) item {
	it := l.queue[0]
	l.queue[0] = item{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	l.bytes -= it.cost()
	s.queued -= it.cost()
	return it
}

func (s *Server) bounce(p pair, items []item, f *failure) {
	if len(items) == 0 {
		return
	}
	e := f.stanzaError(p.remote)
	s.log.Info("stanzas for another server come back", "local", p.local, "remote", p.remote, "stanzas", len(items), "reason", e.Condition)
	for _, it := range items {
		s.router.Bounce(it.st, e)
	}
}

// runLink connects and writes until the queue is empty.
func (s *Server) runLink(l *link) {
	defer s.wg.Done()
	for {
		s.mu.Lock()
		if len(l.queue) == 0 {
			l.running = false
			s.schedule(l)
			s.mu.Unlock()
			return
		}
		t, retryAt := l.stream, l.retryAt
		s.mu.Unlock()
		switch wait := time.Until(retryAt); {
		case t != nil:
			s.writeBatch(l, t)
		case wait > 0:
			s.pause(l, wait)
		default:
			s.tryLink(l)
		}
	}
}

// pause waits for the next attempt, or for something to happen.
func (s *Server) pause(l *link, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.wake:
	case <-s.connecting.Done():
		s.giveUp(l)
	}
}

// giveUp returns everything that waits.
func (s *Server) giveUp(l *link) {
	s.mu.Lock()
	var all []item
	for len(l.queue) > 0 {
		all = append(all, s.pop(l))
	}
	f := l.failure
	s.mu.Unlock()
	s.bounce(l.pair, all, f)
}

func (s *Server) tryLink(l *link) {
	ctx, cancel := context.WithCancel(s.connecting)
	defer cancel()
	s.mu.Lock()
	l.connect = cancel
	s.mu.Unlock()
	t, err := s.connect(ctx, l.pair)
	s.mu.Lock()
	l.connect = nil
	attached := l.stream != nil
	s.mu.Unlock()
	if err != nil && attached {
		return
	}
	if err == nil {
		s.mu.Lock()
		l.failure, l.retryAt = nil, time.Time{}
		if l.stream == nil {
			l.stream = t
		}
		s.mu.Unlock()
		s.wg.Go(func() { t.finish(t.run()) })
		return
	}
	f := asFailure(err)
	s.log.Warn("another server can not be reached", "local", l.pair.local, "remote", l.pair.remote, "reason", f.condition, "error", err)
	s.mu.Lock()
	l.fails++
	l.failure = f
	l.retryAt = time.Now().Add(s.backoff(l.fails))
	s.mu.Unlock()
	if f.lasting || s.connecting.Err() != nil {
		s.giveUp(l)
	}
}

// backoff doubles from a second to a minute, give or take a fifth, so that many boxes do not come back at once.
func (s *Server) backoff(fails int) time.Duration {
	d := min(backoffMin<<min(fails-1, 16), backoffMax)
	return d*4/5 + time.Duration(s.opt.random(int(d*2/5)))
}

// writeBatch writes what waits, as far as it is not too much. What did not go out whole stays, in its place.
func (s *Server) writeBatch(l *link, t *stream) {
	var batch []item
	var buf []byte
	s.mu.Lock()
	for len(l.queue) > 0 && (len(batch) == 0 || len(buf)+len(l.queue[0].st.Raw) <= batchBytes) {
		it := s.pop(l)
		batch = append(batch, it)
		buf = append(buf, it.st.Raw...)
	}
	s.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	n, err := t.write(buf)
	if err == nil {
		t.used()
		s.mu.Lock()
		l.fails = 0
		s.mu.Unlock()
		return
	}
	for len(batch) > 0 && n >= len(batch[0].st.Raw) {
		n -= len(batch[0].st.Raw)
		batch = batch[1:]
	}
	var poison []item
	if len(batch) > 0 && !errors.Is(err, errEnded) {
		if batch[0].tries++; batch[0].tries >= maxTries {
			poison, batch = batch[:1], batch[1:]
		}
	}
	s.mu.Lock()
	l.queue = append(batch, l.queue...)
	for _, it := range batch {
		l.bytes += it.cost()
		s.queued += it.cost()
	}
	if l.stream == t {
		l.stream = nil
		s.lost++
	}
	if !errors.Is(err, errEnded) {
		l.fails++
		l.retryAt = time.Now().Add(s.backoff(l.fails))
	}
	s.schedule(l)
	s.mu.Unlock()
	s.bounce(l.pair, poison, nil)
	if !errors.Is(err, errEnded) {
		t.log.Warn("writing to another server failed", "local", l.pair.local, "remote", l.pair.remote, "error", err)
		_ = t.socket.Close()
	}
}

// attach offers a stream that the peer opened for what goes out (XEP-0288).
func (s *Server) attach(p pair, t *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	if l == nil && len(s.links) < s.opt.Links {
		l = s.newLink(p)
	}
	if l == nil || l.stream != nil || s.stopping {
		return
	}
	l.stream = t
	l.fails, l.failure, l.retryAt = 0, nil, time.Time{}
	if l.connect != nil {
		l.connect() // a peer that reached us may be one that we can not reach
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// detach takes a stream out of use: nothing more goes out on it.
func (s *Server) detach(t *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.stream == t {
			l.stream = nil
			s.lost++
			s.schedule(l)
		}
	}
}

// forget is detach for a stream that is closed.
func (s *Server) forget(t *stream) {
	s.detach(t)
	s.mu.Lock()
	delete(s.streams, t)
	s.mu.Unlock()
}
