package s2s

import (
	"context"
	"errors"
	"slices"
	"time"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

const (
	batchBytes  = 64 << 10 // written at once, unless one stanza is larger
	backoffMin  = time.Second
	backoffMax  = time.Minute
	backoffLong = 15 * time.Minute // while nothing waits but what is stored
	maxTries    = 3                // connections that one stanza may cost: it may be what the peer ends them for
	linkForgets = time.Minute      // after the back-off: a failure that long ago does not count
	holdTime    = 5 * time.Second  // for the peer to resume its stream before we try to open one of our own
	freshTime   = 5 * time.Minute
	goneTime    = 6 * time.Hour
)

// link is what goes out for one pair of domains. Everything is guarded by the server's lock.
type link struct {
	pair    pair
	queue   []item
	bytes   int // of the queue, and of what was written and may come back
	debt    debt
	used    time.Time // when something was queued last
	running bool      // a goroutine writes or connects
	refused bool      // there were too many links already
	reached bool      // there was a stream in this run
	stream  *stream   // nil: not connected
	ending  *stream   // one that was; what it leaves behind goes first
	lost    *management
	hold    time.Time // the peer may do what makes a stream of our own needless until then
	wake    chan struct{}
	connect context.CancelFunc // ends the attempt to connect; nil while there is none
	timer   *time.Timer
	alarm   time.Time // of the timer

	fails   int
	triedAt time.Time
	retryAt time.Time
	readAt  time.Time // not to read the log before, because it could not be
	failure *failure  // of the last attempt
	missing time.Time // since when the DNS does not know the domain
}

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
		return xmpp.Errorf(stanza.RemoteServerTimeout, "%s did not answer in time", domain)
	}
	if f.condition == stanza.RemoteServerNotFound {
		return xmpp.Errorf(f.condition, "the server of %s can not be found: %s", domain, f.words())
	}
	return xmpp.Errorf(f.condition, "no connection to %s could be made: %s", domain, f.words())
}

// makeRoom tells whether there may be one more link. Of as many as there may be, the one that is unused for longest goes: nobody can shut others out
// by having us talk with a great many domains once. Called with the lock.
func (s *Server) makeRoom() bool {
	if len(s.links) < s.opt.Links {
		return true
	}
	var oldest *link
	for _, l := range s.links {
		if l.idle() && (oldest == nil || l.used.Before(oldest.used)) {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	oldest.timer.Stop()
	delete(s.links, oldest.pair)
	if t := oldest.stream; t != nil && !t.incoming && s.streams[t] {
		s.wg.Go(func() { t.end(nil) })
	}
	return true
}

// idle tells that nothing is on its way.
func (l *link) idle() bool {
	return !l.running && l.bytes == 0 && l.ending == nil && l.lost == nil && !l.debt.active()
}

// newLink is called with the lock.
func (s *Server) newLink(p pair) *link {
	l := &link{pair: p, wake: make(chan struct{}, 1)}
	l.timer = time.AfterFunc(s.opt.QueueTime, func() { s.expire(l) })
	s.links[p] = l
	return l
}

// signal wakes the link's goroutine.
func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// hurry: somebody waits, so the next attempt is not to be long ago. Called with the lock.
func (l *link) hurry() {
	if at := l.triedAt.Add(backoffMax); at.Before(l.retryAt) {
		l.retryAt = at
		l.signal()
	}
}

// kick starts the link's goroutine, or has it look again; called with the lock.
func (s *Server) kick(l *link) {
	switch {
	case l.running:
		l.signal()
	case !s.stopping:
		l.running = true
		s.wg.Add(1)
		go s.runLink(l)
	}
}

// runLink connects and writes until nothing is left to.
func (s *Server) runLink(l *link) {
	defer s.wg.Done()
	for {
		s.refill(l)
		s.mu.Lock()
		do := s.next(l)
		if do == nil {
			l.running = false
			s.again(l)
			s.rest(l)
		}
		s.mu.Unlock()
		if do == nil {
			return
		}
		do()
	}
}

// next is what the link's goroutine is to do; nil: nothing. Called with the lock.
func (s *Server) next(l *link) func() {
	now := time.Now()
	t, d := l.stream, &l.debt
	reads := !s.stopping && (d.behind || d.unread > 0)
	resumes := !s.stopping && l.lost != nil && (len(l.lost.sent) > 0 || l.lost.ours && now.Before(l.lost.eager))
	wait := time.Duration(-1)
	switch {
	case len(l.queue) == 0 && !reads && !resumes:
		return nil
	case l.ending != nil:
		return func() { s.pause(l, -1) }
	case t != nil && len(l.queue) > 0:
		if t.mgmt.takes(l.queue[0]) {
			return func() { s.writeBatch(l, t) }
		}
	case len(l.queue) == 0 && !resumes: // there is no room, or the store can not be read
		if wait = l.readAt.Sub(now); wait <= 0 {
			wait = -1
		}
	case now.Before(l.hold):
		wait = l.hold.Sub(now)
	case now.Before(l.retryAt):
		wait = l.retryAt.Sub(now)
	default:
		return func() { s.tryLink(l) }
	}
	if s.connecting.Err() != nil && t == nil {
		return func() { s.giveUp(l) }
	}
	return func() { s.pause(l, wait) }
}

// takes tells whether a stanza may be written now. One that cost a connection is written alone, so that the next loss tells whose fault it is.
func (m *management) takes(it item) bool {
	return !m.full() && (it.tries == 0 || len(m.sent) == 0)
}

// pause waits until it is time, or something happens; a negative time never comes.
func (s *Server) pause(l *link, wait time.Duration) {
	var due <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	stop := s.connecting.Done()
	s.mu.Lock()
	if l.stream != nil || l.ending != nil {
		stop = nil
	}
	s.mu.Unlock()
	select {
	case <-due:
	case <-l.wake:
	case <-stop:
	}
}

// giveUp returns everything that waits. What is stored stays owed.
func (s *Server) giveUp(l *link) {
	s.mu.Lock()
	back := s.drain(l, func(item) *xmpp.StanzaError { return l.failure.stanzaError(l.pair.remote) })
	stopping := s.stopping
	l.signal()
	s.mu.Unlock()
	if stopping {
		back = slices.DeleteFunc(back, func(b bounced) bool { return b.stored() })
	}
	s.bounce(back)
}

func (s *Server) tryLink(l *link) {
	ctx, cancel := context.WithCancel(s.connecting)
	defer cancel()
	s.mu.Lock()
	l.connect = cancel
	l.triedAt = time.Now()
	lost := l.lost
	s.mu.Unlock()
	t, err := s.connect(ctx, l.pair)
	var back []bounced
	s.mu.Lock()
	l.connect = nil
	attached := l.stream != nil
	if lost != nil && l.lost == lost && (err == nil || attached) { // it was not resumed, and what it left goes another way
		l.lost = nil
		back = s.abandon(lost)
	}
	if err == nil {
		s.linked(l, t)
	}
	s.mu.Unlock()
	s.bounce(back)
	switch {
	case err == nil:
		s.wg.Go(func() { t.finish(t.run()) })
	case !attached:
		s.failed(l, asFailure(err))
	}
}

// linked has a stream take what goes out; called with the lock.
func (s *Server) linked(l *link, t *stream) {
	l.fails, l.failure, l.retryAt, l.missing, l.hold, l.reached = 0, nil, time.Time{}, time.Time{}, time.Time{}, true
	if l.stream == nil {
		l.stream = t
	}
}

// failed: no stream could be opened. What is stored waits, unless the domain does not exist.
func (s *Server) failed(l *link, f *failure) {
	s.log.Warn("another server can not be reached", "local", l.pair.local, "remote", l.pair.remote, "reason", f.condition, "error", f.err)
	s.mu.Lock()
	now := time.Now()
	l.fails++
	l.failure = f
	l.retryAt = now.Add(s.backoff(l))
	if !isNotFound(f.err) {
		l.missing = time.Time{}
	} else if l.missing.IsZero() {
		l.missing = now
	}
	stopping := s.connecting.Err() != nil
	back := s.drain(l, func(it item) *xmpp.StanzaError {
		switch {
		case it.stored() && l.nowhere(now) && l.gone(it, now), !it.stored() && f.lasting:
			return f.stanzaError(l.pair.remote)
		}
		return nil
	})
	s.mu.Unlock()
	s.bounce(back)
	if stopping {
		s.giveUp(l)
	}
}

// backoff doubles from a second, give or take a fifth, so that many boxes do not come back at once. Called with the lock.
func (s *Server) backoff(l *link) time.Duration {
	most := backoffMax
	if !slices.ContainsFunc(l.queue, func(it item) bool { return !it.stored() }) && !l.lost.urgent() {
		most = backoffLong
	}
	d := min(backoffMin<<min(l.fails-1, 16), most)
	return d*4/5 + time.Duration(s.opt.random(int(d*2/5)))
}

// urgent tells whether a session that was lost holds anything but what is stored.
func (m *management) urgent() bool {
	return m != nil && slices.ContainsFunc(m.sent, func(e sent) bool { return !e.stored() && !e.over })
}

// writeBatch writes what waits, as far as it is not too much. What did not go out whole stays, in its place.
func (s *Server) writeBatch(l *link, t *stream) {
	t.writing <- struct{}{}
	m, buf, after, lengths := s.take(l, t)
	var n int
	var err error
	if len(lengths) > 0 {
		n, err = t.writeNow(buf)
	}
	s.mu.Lock()
	back := s.written(l, m, after, lengths, n)
	if err == nil {
		s.pingBehind(m)
		if !m.counts && len(m.sent) == 0 {
			l.fails = 0
		}
	} else {
		s.leave(t)
	}
	s.mu.Unlock()
	<-t.writing
	s.bounce(back)
	switch {
	case err == nil && len(lengths) > 0:
		t.used()
	case err != nil && !errors.Is(err, errEnded):
		t.log.Warn("writing to another server failed", "local", l.pair.local, "remote", l.pair.remote, "error", err)
		_ = t.socket.Close()
	}
}

// take moves stanzas from the queue to what was written to a stream; the lengths are those of what is to be written.
func (s *Server) take(l *link, t *stream) (m *management, buf []byte, after uint64, lengths []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m = t.mgmt
	after = m.serial
	if l.stream != t {
		return m, nil, after, nil
	}
	now := time.Now()
	for len(l.queue) > 0 && m.takes(l.queue[0]) {
		wire := l.queue[0].wire(now)
		if len(buf) > 0 && len(buf)+len(wire) > batchBytes {
			break
		}
		m.add(l, s.shift(l), now)
		buf = append(buf, wire...)
		lengths = append(lengths, len(wire))
	}
	if m.counts && !m.asked && len(buf) > 0 {
		buf = s.appendAsk(buf, m)
	}
	return m, buf, after, lengths
}

// expectStream tells that a peer's stream is likely to be attached soon.
func (s *Server) expectStream(p pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	if l == nil && len(s.links) < s.opt.Links {
		l = s.newLink(p)
	}
	if l != nil && l.stream == nil {
		l.hold = time.Now().Add(2 * attachAfter)
	}
}

// attach offers a stream that the peer opened for what goes out (XEP-0288).
func (s *Server) attach(p pair, t *stream) {
	s.mu.Lock()
	l := s.links[p]
	if l == nil && len(s.links) < s.opt.Links {
		l = s.newLink(p)
	}
	if l == nil || l.stream != nil || s.stopping || !s.streams[t] {
		s.mu.Unlock()
		return
	}
	var back []bounced
	if m := l.lost; m != nil && l.connect == nil {
		l.lost = nil
		back = s.abandon(m)
	}
	s.linked(l, t)
	if l.connect != nil {
		l.connect() // a peer that reached us may be one that we can not reach
	}
	if len(l.queue) > 0 || l.debt.behind || l.debt.unread > 0 {
		s.kick(l)
	}
	l.signal()
	s.mu.Unlock()
	s.bounce(back)
}

// appeared: a peer that reached us may be reached.
func (s *Server) appeared(p pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.links[p]; l != nil && l.stream == nil && l.failure != nil {
		l.retryAt = time.Now()
		l.signal()
	}
}
