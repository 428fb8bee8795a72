package testclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pibox/internal/xmpp/frame"
)

const nsSM = "urn:xmpp:sm:3"

// SMSession is what a client keeps of a session with stream management (XEP-0198) after its connection was lost.
type SMSession struct {
	ID      string
	JID     string
	In      uint32   // stanzas of the server that were handled
	Acked   uint32   // stanzas of the client that the server said it handled
	Unacked []string // those it sent behind them, in order
	// Serial is the number of the last id of a request: after a resumption replies may come to requests from before.
	Serial int
}

// Resumption is what became of the attempt to resume a session.
type Resumption struct {
	Asked, Resumed bool
	// Told: the server told how many stanzas it handled; also when it could not resume (XEP-0198 §5).
	Told bool
	// Handled are the stanzas of SMSession.Unacked that the server handled; Unhandled the others. A resumed session sends them again by itself.
	Handled, Unhandled []string
}

// management is the client's side of stream management. The methods of nil do nothing.
type management struct {
	outcome Resumption
	again   []string // to be sent after a resumption

	mu      sync.Mutex
	on      bool
	session SMSession
	more    chan struct{} // closed and replaced when Acked changes, or at the end
	over    bool
}

// SM tells whether stream management is on.
func (c *Client) SM() bool { return c.sm != nil && c.sm.on }

// Resumption is what became of Config.Resume.
func (c *Client) Resumption() Resumption {
	if c.sm == nil {
		return Resumption{}
	}
	return c.sm.outcome
}

// SMSession is a copy of what is needed to resume; nil where the server does not let it be resumed.
func (c *Client) SMSession() *SMSession {
	if !c.SM() {
		return nil
	}
	c.sm.mu.Lock()
	defer c.sm.mu.Unlock()
	if c.sm.session.ID == "" {
		return nil
	}
	s := c.sm.session
	s.Unacked = slices.Clone(s.Unacked)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Serial = c.lastID
	return &s
}

// AwaitAck asks the server, and waits until it has handled all stanzas that were sent before the call.
func (c *Client) AwaitAck(ctx context.Context) error {
	m := c.sm
	m.mu.Lock()
	target := m.session.Acked + uint32(len(m.session.Unacked))
	m.mu.Unlock()
	if err := c.Send("<r xmlns='" + nsSM + "'/>"); err != nil {
		return err
	}
	for {
		m.mu.Lock()
		done, over, more := int32(m.session.Acked-target) >= 0, m.over, m.more
		m.mu.Unlock()
		switch {
		case done:
			return nil
		case over:
			return c.Err()
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%s: no acknowledgement: %w", c.jid, ctx.Err())
		}
	}
}

// sending counts a stanza that is about to be sent; called in the order of sending.
func (m *management) sending(raw string) {
	if m == nil || !m.on || !isStanza(raw) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session.Unacked = append(m.session.Unacked, raw)
}

func isStanza(raw string) bool {
	return strings.HasPrefix(raw, "<message") || strings.HasPrefix(raw, "<iq") || strings.HasPrefix(raw, "<presence")
}

// received counts a stanza of the server.
func (m *management) received() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session.In++
}

func (m *management) ended() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	m.changed()
}

// changed wakes who waits; called with the lock.
func (m *management) changed() {
	close(m.more)
	m.more = make(chan struct{})
}

// handled takes the server's h over and returns what was acknowledged with it.
func (m *management) handled(h uint32) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := h - m.session.Acked // modulo 2^32 (XEP-0198 §4)
	if n > uint32(len(m.session.Unacked)) {
		return nil, fmt.Errorf("the server acknowledged %d stanzas, and was sent %d", h, m.session.Acked+uint32(len(m.session.Unacked)))
	}
	done := m.session.Unacked[:n:n]
	m.session.Acked, m.session.Unacked = h, m.session.Unacked[n:]
	m.changed()
	return done, nil
}

func count(el *frame.Element) (uint32, error) {
	h, err := strconv.ParseUint(el.Attr("h"), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("no number of stanzas: %s", el.Raw)
	}
	return uint32(h), nil
}

// manage handles what is no stanza; from the reading goroutine.
func (c *Client) manage(el *frame.Element) {
	if c.sm == nil {
		return
	}
	switch el.Name {
	case "r":
		c.acknowledge()
	case "a":
		h, err := count(el)
		if err == nil {
			_, err = c.sm.handled(h)
		}
		if err != nil {
			c.lost(err)
		}
	}
}

// acknowledge tells the server what was handled.
func (c *Client) acknowledge() {
	if !c.SM() {
		return
	}
	c.sm.mu.Lock()
	in := c.sm.session.In
	c.sm.mu.Unlock()
	_ = c.Send(fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, in))
}

// enable turns stream management on, after a resource was bound.
func (c *Client) enable() error {
	m := c.sm
	if m == nil {
		m = &management{}
	}
	m.more = make(chan struct{})
	if err := c.Send("<enable xmlns='" + nsSM + "' resume='true'/>"); err != nil {
		return err
	}
	el, err := c.element("enabled")
	if err != nil {
		return err
	}
	m.on, m.session = true, SMSession{JID: c.jid}
	if resume := el.Attr("resume"); resume == "true" || resume == "1" {
		m.session.ID = el.Attr("id")
	}
	c.sm = m
	return nil
}

// resume tries to resume a session (XEP-0198 §5).
func (c *Client) resume(old *SMSession) (bool, error) {
	m := &management{more: make(chan struct{}), session: *old, outcome: Resumption{Asked: true, Unhandled: old.Unacked}}
	if err := c.Send(fmt.Sprintf("<resume xmlns='%s' h='%d' previd='%s'/>", nsSM, old.In, Escape(old.ID))); err != nil {
		return false, err
	}
	el, err := c.element("")
	switch {
	case err != nil:
		return false, err
	case el.NS != nsSM || el.Name != "resumed" && el.Name != "failed":
		return false, fmt.Errorf("the server answered <resume/> with %s", el.Raw)
	}
	if el.Name == "resumed" || el.HasAttr("h") {
		h, err := count(el)
		if err != nil {
			return false, err
		}
		if el.Name == "failed" && int32(h-old.Acked) < 0 {
			h = old.Acked // what changed nothing, and was acknowledged, need not be counted any more
		}
		if m.outcome.Handled, err = m.handled(h); err != nil {
			return false, err
		}
		m.outcome.Told, m.outcome.Unhandled = true, m.session.Unacked
	}
	c.sm = m // turned on only if resumed: the outcome is kept
	if el.Name == "failed" {
		return false, nil
	}
	m.on, m.outcome.Resumed, c.jid, c.lastID = true, true, old.JID, old.Serial
	m.again, m.session.Unacked = m.session.Unacked, nil // each counts again as it is sent; answers to pushes may come between
	return true, nil
}

// retransmit sends what the server had not handled when the session was resumed.
func (c *Client) retransmit() (err error) {
	if !c.SM() {
		return nil
	}
	for _, raw := range c.sm.again { // also when the connection is lost: they are still not acknowledged
		err = errors.Join(err, c.Send(raw))
	}
	c.sm.again = nil
	return err
}
