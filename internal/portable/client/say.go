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

// Say sends messages. It returns those that came back, with the reason, before the server was silent behind the last one: they did not arrive. The error
// is one that ends the session; then nobody knows of any.
func (s *Session) Say(ctx context.Context, all []Message) (back map[xmpp.JID]string, err error) {
	back = map[xmpp.JID]string{}
	mine := map[string]xmpp.JID{}
	for _, m := range all {
		mine[m.ID] = m.To
	}
	was := s.message
	defer func() { s.message = was }()
	s.message = func(el *frame.Element) error {
		from, err := xmpp.ParseJID(el.Attr("from"))
		if to, ok := mine[el.Attr("id")]; err == nil && ok && el.Attr("type") == "error" && from.Bare() == to {
			back[to] = "it came back"
			if r, ok := refusal(el.Node()).(*Refusal); ok {
				back[to] += " (" + r.Condition + ")"
			}
		}
		return nil
	}
	for _, m := range all {
		x := xmpp.NewXML("message").Attr("type", "chat").Attr("to", m.To.String()).Attr("id", m.ID).Attr("xml:lang", m.Language)
		if err := s.send(ctx, x.Leaf("body", "", m.Body).Bytes()); err != nil {
			return nil, err
		}
	}
	return back, s.settle(ctx)
}
