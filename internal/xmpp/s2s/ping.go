package s2s

import (
	"time"

	"pibox/internal/xmpp"
)

const (
	// pingAfter lets one ping stand behind what is sent within it.
	pingAfter = time.Second
	pingAgain = 10 * time.Second // after one that our own side gave back
)

// pingBehind sees to it that a ping follows what is stored, was written to a stream and does not count under XEP-0198: an answer to it, even an
// error, shows that the peer has all that was before. Called with the lock.
func (s *Server) pingBehind(m *management, wait time.Duration) {
	if m.pinging || m.pinger != nil || !m.unproven() || m.stream == nil || s.stopping {
		return
	}
	if m.full() {
		wait = 0
	}
	m.pinger = time.AfterFunc(wait, func() { s.ping(m) })
}

// unproven tells whether something can not be acknowledged but by a ping.
func (m *management) unproven() bool {
	for i := range m.sent {
		if e := &m.sent[i]; e.keep && !e.counted {
			return true
		}
	}
	return false
}

func (s *Server) ping(m *management) {
	s.mu.Lock()
	m.pinger = nil
	t := m.stream
	if t == nil || !m.unproven() || s.stopping {
		s.mu.Unlock()
		return
	}
	m.pinging = true
	// The ping is queued behind them. Where the link has another stream by then, these were given back to it.
	p, covered := m.sent[len(m.sent)-1].link.pair, m.serial
	s.mu.Unlock()
	s.router.Ask(xmpp.Ask{
		From: xmpp.JID{Domain: p.local}, To: xmpp.JID{Domain: p.remote}, Type: "get", Timeout: s.opt.AckTimeout,
		Payload: xmpp.NewXMLNS("ping", "urn:xmpp:ping").Bytes(),
		Done:    func(reply *xmpp.Request) { s.pinged(m, t, covered, reply) },
	})
}

// pinged: an answer counts when it is the peer's; one without a peer is of our own side.
func (s *Server) pinged(m *management, t *stream, covered uint64, reply *xmpp.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.pinging = false
	if m.stream != t || !s.streams[t] {
		return
	}
	switch {
	case reply == nil:
		// Where the peer can not reach us its answers do not come, but the end of its stream does: behind ours, and with it behind all
		// that we sent (RFC 6120 §4.4).
		t.log.Warn("another server does not answer", "local", t.pair.local, "remote", t.pair.remote)
		s.leave(t)
		s.wg.Go(func() { t.end(nil) })
	case reply.Peer == nil:
		s.pingBehind(m, pingAgain)
	default:
		s.arrive(m, func(e *sent) bool { return !e.counted && e.serial <= covered })
		s.pingBehind(m, pingAfter)
	}
}
