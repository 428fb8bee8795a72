package c2s

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"

	"mellium.im/xmpp/stanza"
)

// settleTime is how long <resume/> waits for what the client sent before to be handled, so that it is not sent again; a card may stall for long.
const settleTime = 30 * time.Second

var (
	errTakenOver = &xmpp.StreamError{Condition: "conflict", Text: "the session goes on over another connection"} // XEP-0198 §5
	errNoSession = errors.New("there is no such session")
	errUnsettled = errors.New("what was sent before is not handled yet")
)

// endsSession tells whether a connection that ends for this reason takes the session with it (XEP-0198 §7): the client closed the stream, or we
// did for what it did. One that was lost, or ended because the box stops, does not.
func endsSession(why error) bool {
	var se *xmpp.StreamError
	switch {
	case why == nil, errors.Is(why, errStreamEnd), errors.Is(why, errPeerError):
		return true
	case errors.As(why, &se):
		return se != errTakenOver && se.Condition != "connection-timeout" && se.Condition != "system-shutdown"
	}
	return false
}

func countTooHigh(h, sent uint32) *xmpp.StreamError { // XEP-0198 §6
	text, app := sm.TooHigh(h, sent)
	return &xmpp.StreamError{Condition: "undefined-condition", Text: text, App: app}
}

// managedUnbound takes an element of stream management in the place of binding. done: there is a session.
func (c *conn) managedUnbound(el *frame.Element) (done bool, err error) {
	if el.Name == "enable" {
		c.send(sm.Failed(stanza.UnexpectedRequest), false)
		return false, nil
	}
	if err = c.resume(el); errors.Is(err, errNoSession) {
		return false, nil
	}
	return err == nil, err
}

// managed takes an element of stream management from a client that has a resource.
func (c *conn) managed(el *frame.Element) error {
	l := c.link
	switch {
	case el.Name == "enable" && l.stream == nil:
		c.enable(el)
	case el.Name == "enable", el.Name == "resume": // XEP-0198 §3: once, and in the place of binding
		c.send(sm.Failed(stanza.UnexpectedRequest), false)
	case el.Name == "r" && l.stream != nil:
		l.stream.in.ask()
	case el.Name == "a" && l.stream != nil:
		h, ok := sm.CountOf(el)
		if !ok {
			return &xmpp.StreamError{Condition: "bad-format", Text: "an acknowledgement says how many stanzas were handled"}
		}
		done, err := l.out.ack(h)
		if err != nil {
			return err
		}
		l.acked(done)
	default:
		return &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "stream management is not enabled, or has no such element"}
	}
	return nil
}

// enable is XEP-0198 §3.
func (c *conn) enable(el *frame.Element) {
	resume, ok := sm.Bool(el.Attr("resume"))
	timeout := c.srv.opt.ResumeTimeout
	if el.HasAttr("max") {
		wanted, valid := sm.MaxOf(el)
		ok = ok && valid
		timeout = min(timeout, wanted)
	}
	if !ok {
		c.send(sm.Failed(stanza.BadRequest), false)
		return
	}
	id := ""
	if resume {
		id = rand.Text()
	}
	c.link.enable(id, timeout)
	c.session.SetConfirms()
	c.out.setAsked(c.expectAck)
	if c.out.begin(sm.Enabled(id, timeout), &unacked{resume: resume}) {
		go c.out.run()
	}
	if resume {
		c.srv.streams.add(c.link)
	}
}

func (l *link) enable(id string, timeout time.Duration) {
	l.stream = &stream{id: id, timeout: timeout}
	in := &l.stream.in
	in.sweep = l.srv.streams.sweep
	in.tell = func(h uint64) { l.tell(sm.AppendAck(nil, uint32(h))) }
	if id != "" {
		in.key = progressKey(l.session.JID.Bare(), id)
	}
}

// expectAck has the reader look after the acknowledgement that the client was asked for.
func (c *conn) expectAck() { c.readSooner(time.Now().Add(c.srv.opt.DeadAfter)) }

// resume is XEP-0198 §5. A stanza error is told, and the client may bind; any other error ends the connection.
func (c *conn) resume(el *frame.Element) error {
	id := el.Attr("previd")
	h, ok := sm.CountOf(el)
	if !ok || id == "" {
		c.send(sm.Failed(stanza.BadRequest), false)
		return errNoSession
	}
	err := errNoSession
	if l := c.srv.streams.find(c.account, id); l != nil {
		err = c.takeOver(l, h)
	}
	switch {
	case errors.Is(err, errNoSession):
		failed := sm.Failed(stanza.ItemNotFound)
		if n, ok := c.srv.streams.handled(c.account, id); ok {
			failed = sm.FailedAt(stanza.ItemNotFound, uint32(n))
		}
		c.log(slog.LevelInfo, "session can not be resumed", "account", c.account.String())
		c.send(failed, false)
	case errors.Is(err, errUnsettled):
		c.send(sm.Failed(stanza.ResourceConstraint), false)
		return errNoSession
	}
	return err
}

// takeOver makes a session this connection's.
func (c *conn) takeOver(l *link, h uint32) error {
	if err := c.out.hold(); err != nil { // all so far is written
		return err
	}
	resumed, err := c.claimed(l, h)
	if err != nil {
		c.out.resume(c.net)
		return err
	}
	if !c.adopt(l) {
		c.out.resume(c.net)
		l.leave()
		return errEnding
	}
	l.out.attach(c.net, resumed, c.end, c.expectAck)
	l.guard(func() { c.srv.router.SetDetached(l.session, false) })
	c.log(slog.LevelInfo, "resumed", "jid", l.session.JID.String(), "before", l.session.ConnID)
	return nil
}

// claimed brings the session to where it can go on, and gives the answer to <resume/>.
func (c *conn) claimed(l *link, h uint32) ([]byte, error) {
	if !l.claim(c) {
		if c.isEnding() {
			return nil, errEnding
		}
		return nil, errNoSession
	}
	// From here on the session ends with this connection or is given back.
	ctx, cancel := context.WithTimeout(c.ctx, settleTime)
	defer cancel()
	handled, settled := l.stream.in.settle(ctx)
	switch r := c.srv.router; {
	case c.isEnding():
		l.leave()
		return nil, errEnding
	case !settled:
		l.leave()
		return nil, errUnsettled
	case !r.Exists(c.account) || r.Era(c.account) != c.era:
		l.leave()
		return nil, &xmpp.StreamError{Condition: "not-authorized", Text: "the account or its password is not the same any more"}
	}
	done, ok, tooHigh := l.out.resumeAt(h)
	switch {
	case tooHigh != nil:
		l.leave()
		return nil, tooHigh
	case !ok: // what it has lost since is not here any more
		l.over.Store(true)
		l.leave()
		return nil, errNoSession
	}
	l.acked(done)
	return sm.Resumed(uint32(handled), l.stream.id), nil
}

// adopt makes the session the connection's own, unless that is ending.
func (c *conn) adopt(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return false
	}
	c.link, c.session, c.out = l, l.session, l.out
	return true
}
