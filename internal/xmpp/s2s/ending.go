package s2s

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"
)

func (t *stream) isEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// isCut tells whether a reader that stopped because of err had an authenticated stream that neither side ended.
func (t *stream) isCut(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var pe *peerError
	return t.started && !t.ended && err != nil && asStreamError(err) == nil && !errors.As(err, &pe) &&
		!errors.Is(err, errPeerEnded) && !errors.Is(err, errForged)
}

// abort gives a stream up without an end, because an end would end what can be resumed, too.
func (t *stream) abort() {
	t.mu.Lock()
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	_ = t.socket.Close()
}

// lastAck is what the peer is told to have been handled before the end of the stream (XEP-0198 §4); what it sends from now on is not.
func (t *stream) lastAck() []byte {
	t.s.mu.Lock()
	t.closing = true
	m := t.mgmt
	counts := m.counts && m.stream == t
	t.s.mu.Unlock()
	if !counts {
		return nil
	}
	t.s.settled(t.s.ctx, m, endTimeout)
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if m.stream != t {
		return nil
	}
	return sm.AppendAck(nil, m.handled)
}

// overdue tells whether the peer has acknowledged nothing for too long. Where it did not all, it is asked again.
func (t *stream) overdue(now time.Time) bool {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	m := t.mgmt
	if !m.counts || len(m.sent) == 0 {
		return false
	}
	if !m.asked {
		t.s.control(t, false, true)
	}
	return now.Sub(m.since) >= t.s.opt.AckTimeout
}

// drain reads on for a moment: closing a socket with unread bytes resets the connection, and the peer may never see the error.
func (t *stream) drain() {
	if c, ok := t.conn.(*tls.Conn); ok {
		_ = c.CloseWrite()
	}
	_ = t.socket.SetReadDeadline(time.Now().Add(closeTimeout))
	_, _ = io.Copy(io.Discard, io.LimitReader(t.socket, drainBytes))
}

// asStreamError is what the peer is told of a reader's end; nil is nothing but the end of the stream.
func asStreamError(err error) *xmpp.StreamError {
	var se *xmpp.StreamError
	var fe *frame.Error
	switch {
	case errors.As(err, &se):
		return se
	case errors.As(err, &fe):
		return &xmpp.StreamError{Condition: fe.Condition, Text: fe.Text}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &xmpp.StreamError{Condition: "connection-timeout", Text: "this took too long"}
	}
	return nil
}
