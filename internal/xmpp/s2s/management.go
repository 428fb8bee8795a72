package s2s

import (
	"context"
	"slices"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sm"
)

// Bounds of what is written to a stream and not known to have arrived.
const (
	windowBytes  = 512 << 10
	windowStanza = 1000
)

// management is what is known of the stanzas that travel on a stream (XEP-0198 §4). It outlives the stream where it can be resumed (§5). The
// server's lock guards it.
type management struct {
	stream   *stream       // nil while there is none
	counts   bool          // XEP-0198 is enabled; without it pings tell what arrived
	id       string        // SM-ID; "" can not be resumed
	ours     bool          // we enabled it, so it is us who may resume it
	pair     pair          // of the stream
	lifetime time.Duration // ours: for how long the peer keeps it
	// Of one that is lost: until when it is kept, until when we resume it though we have nothing to send, and what forgets one of the peer's.
	until, eager time.Time
	timer        *time.Timer

	sent   []sent // not known to have arrived, in the order of writing
	bytes  int    // of these
	serial uint64 // of the last stanza that was written
	acked  uint32 // what the peer handled of those that count
	asked  bool   // <r/> is to be answered
	upTo   uint64 // serial at the last <r/>
	since  time.Time

	pinging bool
	pinger  *time.Timer

	received, handled uint32 // stanzas of the peer
	open              []bool // those behind handled: which are done
	promised          bool   // <r/> was answered before all was handled: another <a/> follows
	idle              chan struct{}
}

// sent is a stanza that was written, or is being written.
type sent struct {
	item
	link    *link
	serial  uint64
	counted bool // under XEP-0198
	keep    bool // stays until it is known to have arrived
	over    bool // came back to its sender while the stream was lost
}

// full tells whether nothing more is to be written for now.
func (m *management) full() bool {
	return m.bytes >= windowBytes || len(m.sent) >= windowStanza || len(m.sent) > 0 && m.sent[0].tries > 0 && m.sent[0].keep
}

// add notes a stanza that is about to be written.
func (m *management) add(l *link, it item, now time.Time) {
	if len(m.sent) == 0 {
		m.since = now
	}
	m.serial++
	m.bytes += it.cost()
	m.sent = append(m.sent, sent{item: it, link: l, serial: m.serial, counted: m.counts, keep: m.counts || it.stored()})
}

// written ends the writing of what was added for a link after a serial: n bytes went out. What need not be confirmed is done with; what did not
// go out whole goes back to the queue, unless it was what several connections ended in. Called with the lock.
func (s *Server) written(l *link, m *management, after uint64, lengths []int, n int) (back []bounced) {
	var again []item
	m.sent = slices.DeleteFunc(m.sent, func(e sent) bool {
		if e.serial <= after || e.serial > after+uint64(len(lengths)) {
			return false
		}
		size := lengths[e.serial-after-1]
		out := max(0, min(n, size))
		n -= size
		if out == size && e.keep {
			return false
		}
		m.bytes -= e.cost()
		switch {
		case out == size:
			s.release(l, e.item)
			return true
		case out > 0:
			e.tries++
		}
		if e.tries >= maxTries && !e.stored() {
			s.release(l, e.item)
			back = append(back, bounced{l, e.item, l.failure.stanzaError(l.pair.remote)})
			return true
		}
		again = append(again, e.item)
		return true
	})
	if len(again) > 0 {
		l.queue = slices.Concat(again, l.queue)
		s.again(l)
	}
	return back
}

// arrive takes out what f tells to have arrived.
func (s *Server) arrive(m *management, arrived func(e *sent) bool) (n int) {
	now := time.Now()
	m.sent = slices.DeleteFunc(m.sent, func(e sent) bool {
		if !arrived(&e) {
			return false
		}
		n++
		m.bytes -= e.cost()
		e.link.fails = 0
		s.release(e.link, e.item)
		s.arrived(e.link, e.st.Seq)
		e.link.signal()
		return true
	})
	if n > 0 {
		m.since = now
	}
	return n
}

// acknowledged takes the peer's h.
func (s *Server) acknowledged(m *management, h uint32) *xmpp.StreamError {
	n, _ := sm.Since(m.acked, h) // one that goes back is too high
	out := uint32(0)
	for _, e := range m.sent {
		if e.counted {
			out++
		}
	}
	if n > out {
		return tooHigh(h, m.acked+out)
	}
	m.acked, m.asked = h, false
	left := n
	s.arrive(m, func(e *sent) bool {
		if !e.counted || left == 0 {
			return false
		}
		left--
		return true
	})
	if t := m.stream; t != nil && n > 0 && n < out && m.serial > m.upTo {
		s.control(t, false, true)
	}
	return nil
}

// receive counts a stanza of the peer; take is false when it is not to be handled, because nothing that comes after our last word is.
func (s *Server) receive(t *stream) (rc *xmpp.Receipt, take bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := t.mgmt
	switch {
	case !m.counts:
		return nil, true
	case m.stream != t || t.closing:
		return nil, false
	}
	n := m.received
	m.received++
	m.open = append(m.open, false)
	return &xmpp.Receipt{Done: func() { s.handled(m, n) }}, true
}

// handled: the n-th stanza is durable and out. The next ones may have been before.
func (s *Server) handled(m *management, n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.open[n-m.handled] = true
	for len(m.open) > 0 && m.open[0] {
		m.open = m.open[1:]
		m.handled++
	}
	if m.handled != m.received {
		return
	}
	m.open = nil
	if m.idle != nil {
		close(m.idle)
		m.idle = nil
	}
	if m.promised && m.stream != nil {
		m.promised = false
		s.control(m.stream, true, false)
	}
}

// settled waits until all that the peer sent is handled.
func (s *Server) settled(ctx context.Context, m *management, limit time.Duration) bool {
	s.mu.Lock()
	if m.handled == m.received {
		s.mu.Unlock()
		return true
	}
	if m.idle == nil {
		m.idle = make(chan struct{})
	}
	idle := m.idle
	s.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// control has <a/>, <r/> or a ping written by a goroutine of its own: neither the reader nor the committer waits for a slow peer. Called with the lock.
func (s *Server) control(t *stream, ack, ask bool) {
	t.ackDue, t.askDue = t.ackDue || ack, t.askDue || ask
	if t.controlling || !s.streams[t] {
		return
	}
	t.controlling = true
	s.wg.Go(func() { s.writeControl(t) })
}

func (s *Server) writeControl(t *stream) {
	for {
		t.writing <- struct{}{}
		s.mu.Lock()
		var b []byte
		m := t.mgmt
		if t.ackDue && m.stream == t {
			b = sm.AppendAck(b, m.handled)
		}
		if t.askDue && m.stream == t {
			b = s.appendAsk(b, m)
		}
		if t.pingDue && m.stream == t {
			b = s.appendPing(b, t)
		}
		t.ackDue, t.askDue, t.pingDue = false, false, false
		t.controlling = len(b) > 0
		s.mu.Unlock()
		var err error
		if len(b) > 0 {
			_, err = t.writeNow(b)
		}
		<-t.writing
		if len(b) == 0 || err != nil {
			return
		}
	}
}

// appendAsk is called with the lock.
func (s *Server) appendAsk(b []byte, m *management) []byte {
	m.asked, m.upTo = true, m.serial
	return append(b, sm.Ask...)
}
