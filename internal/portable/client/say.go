package client

import (
	"context"
	"strconv"

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
				bounced[to] = bounce{why: r.words("it came back"), away: away(r)}
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
			back[m.To] = NotSaid{Why: "their server has not answered yet", Again: true}
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

// Said tells which of these messages are in the account's archive: an earlier session sent them. Where there is none, nobody knows of any.
func (s *Session) Said(ctx context.Context, all []Message) (map[xmpp.JID]bool, error) {
	said := map[xmpp.JID]bool{}
	has, err := s.supports(ctx, s.me.Bare())
	ns := archiveOf(has)
	if err != nil || ns == "" {
		return said, err
	}
	for _, m := range all {
		// It is among the last that went between the two.
		form := options(ns, "", [][2]string{{"with", m.To.String()}})
		set := xmpp.NewXMLNS("set", nsRSM).Leaf("max", "", strconv.Itoa(s.c.Limits.Page)).Leaf("before", "", "").Bytes()
		seen := 0
		_, err := s.ask(ctx, query{
			typ: "set", raw: xmpp.NewXMLNS("query", ns).Attr("queryid", m.ID).Raw(form).Raw(set).Bytes(),
			each: func(el *frame.Element) (bool, error) {
				n := el.Node().Child(ns, "result")
				if n == nil || n.Attr("queryid") != m.ID || !s.from(el, s.me.Bare()) {
					return false, nil
				}
				if seen++; seen > 2*s.c.Limits.Page {
					return false, tooMuch("a page of its archive does not end")
				}
				was := n.Child(nsForward, "forwarded").Child(frame.NSClient, "message")
				from, err := xmpp.ParseJID(was.Attr("from"))
				if err == nil && from.Bare() == s.me.Bare() && was.Attr("id") == m.ID {
					said[m.To] = true
				}
				return true, nil
			},
		})
		if err != nil && !refused(err) {
			return nil, err
		}
	}
	return said, nil
}
