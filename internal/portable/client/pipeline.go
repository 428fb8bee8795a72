package client

import (
	"context"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// window is how much goes out before what the server says is read: no more than what lies between two who both write.
const window = 32

// later is a question whose answer may come at any time.
type later struct {
	to  xmpp.JID
	got func(payload *frame.Node, err error)
}

// askLater sends a question and goes on; got sees the answer, if one comes while the session reads: its payload, or a *Refusal.
func (s *Session) askLater(ctx context.Context, q query, got func(payload *frame.Node, err error)) error {
	id, err := s.sendQuery(ctx, q)
	if err != nil {
		return err
	}
	if s.later == nil {
		s.later = map[string]later{}
	}
	s.later[id] = later{to: q.to, got: got}
	return nil
}

// answer takes an answer that nobody waits for at this moment.
func (s *Session) answer(el *frame.Element) {
	l, ok := s.later[el.Attr("id")]
	if !ok || !s.from(el, l.to) {
		return
	}
	delete(s.later, el.Attr("id"))
	if el.Attr("type") == "error" {
		l.got(nil, refusal(el.Node()))
		return
	}
	l.got(firstChild(el.Node()), nil)
}

// askAll asks n questions of the own server, many at a time. each sees how one of them ended: nil, or a *Refusal.
func (s *Session) askAll(ctx context.Context, n int, q func(i int) query, each func(i int, err error)) error {
	for begin := 0; begin < n; begin += window {
		left := min(window, n-begin)
		for i := begin; i < min(begin+window, n); i++ {
			if err := s.askLater(ctx, q(i), func(_ *frame.Node, err error) { left--; each(i, err) }); err != nil {
				return err
			}
		}
		if err := s.idle(ctx, s.c.Limits.Answer, func() bool { return left == 0 }); err != nil {
			return err
		}
		if left > 0 {
			return s.fail(ctx, &Error{Kind: TimedOut})
		}
	}
	return nil
}

// sendAll sends stanzas that get no answer, and returns when the server has taken all of them: it handles a stream in order (RFC 6120 §10.1).
func (s *Session) sendAll(ctx context.Context, stanzas [][]byte) error {
	for i, b := range stanzas {
		if err := s.send(ctx, b); err != nil {
			return err
		}
		if (i+1)%window != 0 && i+1 < len(stanzas) {
			continue
		}
		_, err := s.ask(ctx, query{typ: "get", to: s.me.Host(), raw: xmpp.NewXMLNS("ping", nsPing).Bytes()})
		if err != nil && !refused(err) {
			return err
		}
	}
	return nil
}
