package client

import (
	"context"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// reach is what is known of a contact's server.
type reach struct {
	answered bool
	why      string // an error instead of an answer
	away     bool   // which says that the server can not be reached
}

// bounce is a request that came back; away tells that it did not reach the contact's server.
type bounce struct {
	why  string
	away bool
}

// away tells that a stanza did not reach the other server (RFC 6120 §8.3.3.16 and 17).
func away(r *Refusal) bool {
	return r.Condition == "remote-server-not-found" || r.Condition == "remote-server-timeout"
}

// words tell a person why something did not reach a contact, as the account's own server says.
func (r *Refusal) words(what string) string {
	switch r.Condition {
	case "remote-server-not-found":
		what = "their server can not be found"
	case "remote-server-timeout":
		what = "their server can not be reached"
	default:
		what += " (" + r.Condition + ")"
	}
	if r.Text != "" {
		what += ": " + quoted(r.Text)
	}
	return what
}

// probe asks the server of everybody who was asked. It is the only sign that a request arrived, for there is no answer to one until a person gives it
// (RFC 6121 §3.1.3): what goes to one server stays in order (RFC 6120 §10.1), so an answer to what was sent behind it tells.
func (m *Mover) probe(ctx context.Context) error {
	n := 0
	for j := range m.asked {
		if _, known := m.servers[j.Domain]; known {
			continue
		}
		m.servers[j.Domain] = reach{}
		err := m.s.probe(ctx, j.Host(), func(r reach) { m.servers[j.Domain] = r })
		if err != nil {
			return err
		}
		if n++; n%window == 0 {
			if err := m.s.sendAll(ctx, [][]byte{nil}); err != nil {
				return err
			}
		}
	}
	return nil
}

// probe asks a server for its features, and tells got what came of it, if anything does while the session reads.
func (s *Session) probe(ctx context.Context, server xmpp.JID, got func(reach)) error {
	return s.askLater(ctx, query{typ: "get", to: server, raw: xmpp.NewXMLNS("query", nsInfo).Bytes()}, func(_ *frame.Node, err error) {
		if r, ok := err.(*Refusal); ok {
			got(reach{why: r.words("their server can not be asked"), away: away(r)})
			return
		}
		got(reach{answered: true})
	})
}

// Reach waits until all servers of who was asked have answered, or can not; Limits.Reach bounds it.
func (m *Mover) Reach(ctx context.Context) error {
	return m.s.idle(ctx, m.s.c.Limits.Reach, func() bool {
		for _, r := range m.servers {
			if !r.answered && r.why == "" {
				return false
			}
		}
		return true
	})
}

// arrived tells of a contact who waits why his request may not have arrived; again: it is to be repeated.
func (m *Mover) arrived(j xmpp.JID) (why string, again bool) {
	b, back := m.bounced[j]
	r, probed := m.servers[j.Domain]
	switch {
	case back:
		return b.why, b.away
	case !m.asked[j] || !probed || r.answered:
		return "", false
	case r.why != "":
		return r.why, true
	}
	return "their server has not answered yet", true
}

// Backoff is the wait before the next session, for who began to repeat requests that long ago: a quarter of that, so that a server that was away is
// found soon after a short outage, and a long one costs little.
func Backoff(since time.Duration) time.Duration {
	return min(max(since/4, 15*time.Second), time.Hour)
}
