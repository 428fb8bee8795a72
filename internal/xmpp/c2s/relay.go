package c2s

import (
	"errors"
	"os"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"
)

const nsPing = "urn:xmpp:ping"

// relay hands what the client sends to the router until the connection ends.
func (c *conn) relay() error {
	r := c.srv.router
	c.in.bound = true
	c.readUntil(time.Now().Add(c.srv.opt.Keepalive))
	for {
		el, err := c.nextAlive()
		if err != nil {
			return err
		}
		// The client waits while the committer has no room, and while it sends too fast.
		if err := r.Store.WaitRoom(c.ctx); err != nil {
			return errEnding
		}
		if el.NS == sm.NS {
			if err := c.managed(el); err != nil {
				return err
			}
			if err := c.pause(c.stanzas.Take(time.Now(), 1)); err != nil {
				return err
			}
			continue
		}
		if c.indicated(el) {
			if err := c.pause(c.stanzas.Take(time.Now(), 1)); err != nil {
				return err
			}
			continue
		}
		if c.lang != "" && !el.HasAttr("xml:lang") {
			el = el.With("xml:lang", c.lang) // RFC 6120 §8.1.5
		}
		if se := r.FromSessionWith(c.session, el, c.link.receipt()); se != nil {
			return se
		}
		if err := c.pause(c.stanzas.Take(time.Now(), 1)); err != nil {
			return err
		}
	}
}

// nextAlive is next with a look after whether the client is still there: one that is silent is asked, one that stays silent is gone.
func (c *conn) nextAlive() (*frame.Element, error) {
	opt := &c.srv.opt
	var asked time.Time
	for {
		el, err := c.next()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.isEnding() {
			return el, err
		}
		now := time.Now()
		due := c.in.last.Add(c.keepalive())
		if at := c.out.askedAt(); !at.IsZero() { // whoever sends something is there, and may answer later
			if at.Before(c.in.last) {
				at = c.in.last
			}
			if due = at.Add(opt.DeadAfter); !now.Before(due) {
				return nil, &xmpp.StreamError{Condition: "connection-timeout", Text: errDead.Error()}
			}
		}
		switch {
		case now.Before(due):
			asked = time.Time{}
			c.readUntil(due)
		case asked.IsZero():
			asked = now
			c.ask()
			c.readUntil(now.Add(opt.DeadAfter))
		default:
			return nil, &xmpp.StreamError{Condition: "connection-timeout", Text: errDead.Error()}
		}
	}
}

// ask is a ping (XEP-0199), or with stream management less. Any byte that comes is answer enough.
func (c *conn) ask() {
	if c.link.stream != nil {
		c.out.wantAck()
		return
	}
	to := c.session.JID
	c.out.releaseFirst()
	c.send(xmpp.NewXML("iq").Attr("type", "get").Attr("id", "alive").Attr("from", to.Domain).Attr("to", to.String()).
		Open("ping", nsPing).Bytes(), false)
}
