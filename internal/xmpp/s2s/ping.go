package s2s

import (
	"crypto/rand"
	"strings"
	"time"

	"pibox/internal/xmpp"
)

// pingAfter lets one ping stand behind what is sent within it.
const pingAfter = 250 * time.Millisecond

// ping is a question (XEP-0199) behind what is stored and was written to a stream, where that does not count under XEP-0198: an answer, even an
// error, shows that the peer has what was before. It is written to the stream itself, past the queue, because the queue may wait for it.
type ping struct {
	m       *management
	stream  *stream
	from    xmpp.JID // of the answer
	to      xmpp.JID
	covered uint64 // serial
	timer   *time.Timer
}

// pingBehind sees to it that a ping follows. Called with the lock.
func (s *Server) pingBehind(m *management) {
	t := m.stream
	if m.pinging || m.pinger != nil || t == nil || s.stopping || !m.unproven() {
		return
	}
	wait := pingAfter
	if m.full() {
		wait = 0
	}
	m.pinger = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		m.pinger = nil
		if m.stream == t && m.unproven() {
			m.pinging = true
			t.pingDue = true
			s.control(t, false, false)
		}
	})
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

// appendPing makes the ping; called with the lock, by who has the turn to write.
func (s *Server) appendPing(b []byte, t *stream) []byte {
	m := t.mgmt
	if !m.unproven() {
		m.pinging = false
		return b
	}
	l := m.sent[len(m.sent)-1].link
	id := strings.ToLower(rand.Text()[:16])
	p := &ping{m: m, stream: t, from: xmpp.JID{Domain: l.pair.remote}, to: xmpp.JID{Domain: l.pair.local}, covered: m.serial}
	st := xmpp.Make(xmpp.NewXML("iq").Attr("type", "get").Attr("id", id).Attr("from", l.pair.local).Attr("to", l.pair.remote).
		Open("ping", "urn:xmpp:ping").Bytes())
	if m.counts { // since a moment ago
		it := item{st: st, until: time.Now().Add(s.opt.QueueTime)}
		s.charge(l, it)
		m.add(l, it, time.Now())
	}
	s.pings[id] = p
	p.timer = time.AfterFunc(s.opt.AckTimeout, func() { s.unanswered(id) })
	return append(b, st.Raw...)
}

// pong takes an answer that is for no one but us.
func (s *Server) pong(st *xmpp.Stanza) bool {
	if st.Kind != xmpp.IQ || st.Type != "result" && st.Type != "error" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pings[st.ID]
	if p == nil || p.from != st.From || p.to != st.To {
		return false
	}
	p.timer.Stop()
	delete(s.pings, st.ID)
	if m := p.m; m.stream == p.stream && s.streams[p.stream] {
		m.pinging = false
		s.arrive(m, func(e *sent) bool { return !e.counted && e.serial <= p.covered })
		s.pingBehind(m)
	}
	return true
}

// unanswered: where the peer can not reach us its answers do not come, but the end of its stream does: behind ours, and with it behind all that we
// sent (RFC 6120 §4.4).
func (s *Server) unanswered(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pings[id]
	delete(s.pings, id)
	if p == nil || p.m.stream != p.stream || !s.streams[p.stream] {
		return
	}
	t := p.stream
	t.log.Warn("another server does not answer", "local", t.pair.local, "remote", t.pair.remote)
	s.leave(t)
	s.wg.Go(func() { t.end(nil) })
}
