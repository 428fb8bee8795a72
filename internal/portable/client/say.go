package client

import (
	"context"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Message is one that the account sends to a contact.
type Message struct {
	To       xmpp.JID
	ID       string
	Language string
	Body     string
}

// NotSaid is why a message did not arrive.
type NotSaid struct {
	Why string
	// Again: it did not get to the other server, or nothing shows that it did.
	Again bool
}

// Say sends messages, and waits until the servers that they are for have answered what was sent behind them, or can not; Limits.Reach bounds it. It
// returns those that did not arrive. The error is one that ends the session; then nobody knows of any.
func (s *Session) Say(ctx context.Context, all []Message) (back map[xmpp.JID]NotSaid, err error) {
	bounced := map[xmpp.JID]bounce{}
	mine := map[string]xmpp.JID{}
	for _, m := range all {
		mine[m.ID] = m.To
	}
	was := s.message
	defer func() { s.message = was }()
	s.message = func(el *frame.Element) error {
		from, err := xmpp.ParseJID(el.Attr("from"))
		if to, ok := mine[el.Attr("id")]; err == nil && ok && el.Attr("type") == "error" && from.Bare() == to {
			bounced[to] = bounce{why: "it came back"}
			if r, ok := refusal(el.Node()).(*Refusal); ok {
				bounced[to] = bounce{why: "it came back (" + r.Condition + ")", away: away(r)}
			}
		}
		return nil
	}
	servers := map[xmpp.JID]*reach{}
	for _, m := range all {
		servers[m.To.Host()] = &reach{}
		x := xmpp.NewXML("message").Attr("type", "chat").Attr("to", m.To.String()).Attr("id", m.ID).Attr("xml:lang", m.Language)
		if err := s.send(ctx, x.Leaf("body", "", m.Body).Bytes()); err != nil {
			return nil, err
		}
	}
	if err := s.reached(ctx, servers); err != nil {
		return nil, err
	}
	back = map[xmpp.JID]NotSaid{}
	for _, m := range all {
		b, came := bounced[m.To]
		switch r := servers[m.To.Host()]; {
		case came:
			back[m.To] = NotSaid{Why: b.why, Again: b.away}
		case r.away:
			back[m.To] = NotSaid{Why: r.why, Again: true}
		case !r.answered && r.why == "":
			back[m.To] = NotSaid{Why: "his server has not answered yet", Again: true}
		}
	}
	return back, nil
}

// reached asks servers behind what was sent to them, and waits for their answers, and for what the own server gives back before.
func (s *Session) reached(ctx context.Context, servers map[xmpp.JID]*reach) error {
	open := 0
	for j, r := range servers {
		if err := s.probe(ctx, j, func(now reach) { *r = now; open-- }); err != nil {
			return err
		}
		if open++; open%window == 0 {
			if err := s.sendAll(ctx, [][]byte{nil}); err != nil {
				return err
			}
		}
	}
	if err := s.idle(ctx, s.c.Limits.Reach, func() bool { return open == 0 }); err != nil {
		return err
	}
	return s.sendAll(ctx, [][]byte{nil})
}
