package c2s

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// link is a session's way to its client: over one connection, or with stream management (XEP-0198 §5) over several, one after the other. It is the
// session's outlet.
type link struct {
	srv     *Server
	session *xmpp.Session
	out     *outbox
	stream  *stream     // nil before <enable/>
	over    atomic.Bool // the session ends with its connection, whatever it might have been
	missed  atomic.Bool // an IQ was not taken: a push, or an answer

	mu     sync.Mutex
	conn   *conn         // nil while there is none
	claims int           // by connections that wait for conn to leave
	left   chan struct{} // closed when it has; nil while nobody waits for that
	due    *time.Timer   // ends the session while there is no connection
	end    time.Time     // when due fires
	gone   bool          // it ended, or waits in the store for the next start
}

// stream is what stream management keeps between connections.
type stream struct {
	id      string        // unguessable; "" where it can not be resumed
	timeout time.Duration // how long it may be without a connection
	in      inbound
}

// receipt follows the client's next stanza; nil without stream management.
func (l *link) receipt() *xmpp.Receipt {
	if l.stream == nil {
		return nil
	}
	return l.stream.in.next()
}

// Deliver is xmpp.Outlet.
func (l *link) Deliver(st *xmpp.Stanza) bool {
	switch l.out.put(st) {
	case taken:
		l.srv.boundLost()
		return true
	case refused:
		if st.Kind == xmpp.IQ {
			l.missed.Store(true)
		}
	case overflow:
		l.Close(&xmpp.StreamError{Condition: "resource-constraint", Text: "too much is waiting for this client, which does not read"})
	}
	return false
}

// Close is xmpp.Outlet: it ends the session.
func (l *link) Close(err *xmpp.StreamError) {
	l.over.Store(true)
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	switch {
	case c == nil:
		go l.finish(l.idle)
	case err == nil:
		c.end(nil)
	default:
		c.end(err)
	}
}

// outlives tells whether the session is to go on without a connection that ends for this reason.
func (l *link) outlives(why error) bool {
	return !l.over.Load() && !endsSession(why) && l.out.isResumable()
}

// claim gives the link to a connection, when the one that it had has left. false: the session has ended, or the connection.
func (l *link) claim(c *conn) bool {
	l.mu.Lock()
	l.claims++
	for l.conn != nil && !c.isEnding() {
		old := l.conn
		if l.left == nil {
			l.left = make(chan struct{})
		}
		left := l.left
		l.mu.Unlock()
		old.end(errTakenOver)
		select {
		case <-left:
		case <-c.ctx.Done():
		}
		l.mu.Lock()
	}
	l.claims--
	mine := l.conn == nil && !l.gone && !l.over.Load()
	if mine {
		l.due.Stop()
		l.conn = c
	}
	l.mu.Unlock()
	return mine
}

// leave is how a connection gives the link up that the session outlives.
func (l *link) leave() {
	l.mu.Lock()
	l.conn = nil
	wanted := l.claims > 0
	l.released()
	l.wait(l.stream.timeout)
	over := l.over.Load()
	l.mu.Unlock()
	switch {
	case over:
		l.finish(l.idle)
		return
	case !wanted && !l.srv.isStopping():
		l.guard(func() { l.srv.router.SetDetached(l.session, true) })
	}
	l.srv.boundLost()
	if in := &l.stream.in; in.behind() {
		l.srv.router.Submit(64, func(tx *store.Tx, _ *xmpp.Out) error {
			in.write(tx)
			return nil
		}, nil)
	}
}

// released tells who waits for the link; with the lock.
func (l *link) released() {
	if l.left != nil {
		close(l.left)
		l.left = nil
	}
}

// lostAt is since when there is no connection.
func (l *link) lostAt() (at time.Time, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.Add(-l.stream.timeout), l.conn == nil && !l.gone
}

// wait ends the session after a while without a connection; with the lock.
func (l *link) wait(d time.Duration) {
	l.end = time.Now().Add(d)
	l.due = time.AfterFunc(d, l.expire)
}

func (l *link) expire() {
	if l.finish(l.late) {
		l.srv.log.Info("session was not resumed", "conn", l.session.ConnID, "jid", l.session.JID.String())
	}
}

// late tells that the session's time is over; with the lock. The timer may be one of before.
func (l *link) late() bool { return l.idle() && !time.Now().Before(l.end) }

// idle tells that there is no connection; with the lock.
func (l *link) idle() bool { return l.conn == nil }

// finish ends a session that has no connection, if may is true with the lock. false: it has one again, or somebody else ended it.
func (l *link) finish(may func() bool) bool {
	if !l.unbind(may) {
		return false
	}
	l.giveBack()
	return true
}

// unbind ends the session, if may is true with the lock. false: it is not, or somebody else did.
func (l *link) unbind(may func() bool) bool {
	l.mu.Lock()
	if l.gone || !may() {
		l.mu.Unlock()
		return false
	}
	l.gone, l.conn = true, nil
	l.out.shut()
	if l.due != nil {
		l.due.Stop()
	}
	l.released()
	l.mu.Unlock()
	if l.srv.streams.ended(l) {
		l.srv.router.Submit(0, func(tx *store.Tx, _ *xmpp.Out) error {
			l.srv.streams.sweepAll(tx)
			return nil
		}, func(error) { l.srv.streams.swept() })
	}
	l.guard(func() { l.srv.router.Unbind(l.session) })
	return true
}

// giveBack hands stanzas that did not reach the client back to the router.
func (l *link) giveBack() {
	if unsent := l.out.unsent(); len(unsent) > 0 {
		l.guard(func() { l.srv.router.Unsent(l.session, unsent) })
	}
}

// guard keeps a fault of the program in what ends here from reaching other sessions.
func (l *link) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			l.srv.log.Error("panic at the end of a session", "conn", l.session.ConnID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// tell sends bytes of the stream, from any goroutine.
func (l *link) tell(raw []byte) {
	if l.out.queue(raw) {
		go l.out.run()
	}
}

// acked takes the client's count of what it handled.
func (l *link) acked(done []*xmpp.Stanza) {
	for _, st := range done {
		l.srv.router.Taken(l.session, st)
	}
	clear(done) // the list behind it lives on
}
