package s2s

import (
	"crypto/rand"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"

	"mellium.im/xmpp/stanza"
)

const (
	// attachAfter is how long a peer that may enable stream management may take to, before we send on its stream without (XEP-0288).
	attachAfter = time.Second
	// settleLimit bounds the wait for the card before a stream is resumed: what is not counted then comes twice.
	settleLimit = 30 * time.Second
)

// tooHigh is XEP-0198 §6.
func tooHigh(h, sent uint32) *xmpp.StreamError {
	text, app := sm.TooHigh(h, sent)
	return &xmpp.StreamError{Condition: "undefined-condition", Text: text, App: app}
}

func countOf(el *frame.Element) (uint32, error) {
	h, ok := sm.CountOf(el)
	if !ok {
		return 0, &xmpp.StreamError{Condition: "bad-format", Text: "h is a count of stanzas"}
	}
	return h, nil
}

// manage handles an element of XEP-0198.
func (t *stream) manage(el *frame.Element) error {
	switch el.Name {
	case "r":
		t.s.mu.Lock()
		if m := t.mgmt; m.counts {
			m.promised = m.handled != m.received
			t.s.control(t, true, false)
		}
		t.s.mu.Unlock()
		return nil
	case "a":
		return t.acknowledged(el)
	case "enable", "resume":
		return t.enabling(el)
	}
	return &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "this element of stream management was not expected"}
}

func (t *stream) acknowledged(el *frame.Element) error {
	h, err := countOf(el)
	if err != nil {
		return err
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if m := t.mgmt; m.counts && m.stream == t {
		if se := t.s.acknowledged(m, h); se != nil {
			return se
		}
	}
	return nil
}

// enabling answers the peer that opened the stream (XEP-0198 §3, §5).
func (t *stream) enabling(el *frame.Element) error {
	switch {
	case !t.incoming:
		return &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "who opened the stream enables stream management"}
	case t.s.opt.withoutSM:
		return t.send(sm.Failed(stanza.ServiceUnavailable))
	case len(t.peers) == 0:
		return t.send(sm.Failed(stanza.UnexpectedRequest))
	case t.enabled:
		return &xmpp.StreamError{Condition: "policy-violation", Text: "stream management is enabled once"}
	case el.Name == "resume":
		return t.resumed(el)
	}
	t.enabled = true
	t.s.mu.Lock()
	m := t.mgmt
	m.counts, m.pair = true, t.pair
	// What dialback authorizes, pair by pair, is not carried over to another stream.
	if resume, _ := sm.Bool(el.Attr("resume")); t.sasl && resume {
		m.id = rand.Text()
		t.s.resumable[m.id] = m
	}
	enabled := sm.Enabled(m.id, t.s.opt.ResumeTime)
	t.s.mu.Unlock()
	if err := t.send(enabled); err != nil {
		return err
	}
	t.attachNow()
	return nil
}

// resumed goes on with a session of a stream that was lost, or that the peer holds for lost (XEP-0198 §5).
func (t *stream) resumed(el *frame.Element) error {
	h, err := countOf(el)
	if err != nil {
		return err
	}
	s, id := t.s, el.Attr("previd")
	s.mu.Lock()
	m := s.resumable[id]
	if m == nil || !t.sasl || m.pair != t.pair || t.bidi && !t.attachPending {
		s.mu.Unlock()
		return t.send(sm.Failed(stanza.ItemNotFound))
	}
	old := m.stream
	m.stream = nil // from now on the old one's stanzas do not count
	if m.timer != nil {
		m.timer.Stop()
	}
	if old != nil {
		s.replaced(old)
	}
	s.mu.Unlock()
	whole := s.settled(s.ctx, m, settleLimit)
	s.mu.Lock()
	handled := m.handled
	if !whole || m.id == "" {
		// Whoever waits for the card for so long, or gave up waiting for the peer, begins anew: what was handled meanwhile is told.
		delete(s.resumable, id)
		back := s.abandon(m)
		s.mu.Unlock()
		s.bounce(back)
		return t.send(sm.FailedAt(stanza.ItemNotFound, handled))
	}
	se := s.acknowledged(m, h)
	if se == nil {
		s.carryOn(m, t)
	}
	s.mu.Unlock()
	if se != nil {
		return se
	}
	t.enabled = true
	t.log.Info("stream of another server resumed", "local", t.pair.local, "remote", t.pair.remote, "handled", handled)
	if err := t.send(sm.Resumed(handled, id)); err != nil {
		return err
	}
	t.attachNow()
	return nil
}

// replaced ends a stream that goes on elsewhere; called with the lock.
func (s *Server) replaced(t *stream) {
	s.leave(t)
	if s.streams[t] {
		s.wg.Go(func() {
			t.end(&xmpp.StreamError{Condition: "conflict", Text: "the stream was resumed on another connection"})
			_ = t.socket.Close()
		})
	}
}

// attachLater lets the peer enable stream management before we send on its stream, because only what is sent after that counts.
func (t *stream) attachLater() {
	t.attachPending = true
	t.s.expectStream(t.pair)
	time.AfterFunc(attachAfter, func() {
		t.post(func() error {
			t.attachNow()
			return nil
		})
	})
}

func (t *stream) attachNow() {
	if t.attachPending {
		t.attachPending = false
		t.s.attach(t.pair, t)
	}
}

// enable asks the server that we connected to for stream management, and resumes what a lost stream left, where that can be.
func (t *stream) enable() error {
	if !t.offered.sm || t.s.opt.withoutSM {
		return nil
	}
	t.setDeadline(time.Now().Add(t.s.opt.AuthTimeout))
	defer t.setDeadline(time.Time{})
	if m := t.s.lostBy(t.pair); m != nil {
		resumed, err := t.resume(m)
		if resumed || err != nil {
			return err
		}
	}
	if err := t.send([]byte(sm.Enable)); err != nil {
		return err
	}
	el, err := t.answer()
	if err != nil {
		return err
	}
	if el.Name != "enabled" {
		t.log.Info("the server does not enable stream management", "remote", t.pair.remote)
		return nil
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	m := t.mgmt
	m.counts, m.ours, m.pair = true, true, t.pair
	if resume, _ := sm.Bool(el.Attr("resume")); resume {
		m.id, m.lifetime = el.Attr("id"), t.s.opt.ResumeTime
		if life, ok := sm.MaxOf(el); ok {
			m.lifetime = min(m.lifetime, life)
		}
	}
	return nil
}

// resume tells whether the peer went on with the session. Where it did not, what it says to have handled is believed.
func (t *stream) resume(m *management) (bool, error) {
	t.s.settled(t.s.connecting, m, settleLimit)
	t.s.mu.Lock()
	id, h := m.id, m.handled
	t.s.mu.Unlock()
	if err := t.send(sm.Resume(h, id)); err != nil {
		return false, err
	}
	el, err := t.answer()
	if err != nil {
		return false, err
	}
	resumed := el.Name == "resumed"
	known := el.HasAttr("h")
	if resumed || known {
		if h, err = countOf(el); err != nil {
			return false, err
		}
	}
	t.s.mu.Lock()
	var se *xmpp.StreamError
	var back []bounced
	switch {
	case m.id == "": // it was given up meanwhile
		m.acked = h
	case resumed || known:
		se = t.s.acknowledged(m, h)
	}
	if resumed && se == nil {
		t.s.carryOn(m, t)
	} else {
		back = t.s.abandon(m)
	}
	t.s.mu.Unlock()
	t.s.bounce(back)
	if se != nil {
		return false, se
	}
	t.log.Info("resuming a stream to another server", "remote", t.pair.remote, "resumed", resumed)
	return resumed, nil
}

// answer reads until stream management's answer comes; what the peer may send meanwhile is handled.
func (t *stream) answer() (*frame.Element, error) {
	for {
		el, err := t.element()
		if err != nil {
			return nil, err
		}
		if el.NS == sm.NS && (el.Name == "enabled" || el.Name == "resumed" || el.Name == "failed") {
			return el, nil
		}
		if err := t.handle(el); err != nil {
			return nil, err
		}
	}
}
