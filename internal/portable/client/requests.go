package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// bringRequests becomes available, because servers hand out what waits for the account only then (RFC 6121 §3.1.3, §8.5.2): subscription requests,
// and messages that no device has got. These are to stay there as well:
//   - A server with XEP-0013 lets them be read, and keeps them back from this session.
//   - With stream management (XEP-0198) nothing is ever acknowledged, so that the server takes them back.
//   - Else the resource gets a negative priority, which gets no messages, and with some servers no requests.
func (s *Session) bringRequests(ctx context.Context, sink portable.Sink, st *State) error {
	w := &waiting{s: s, sink: sink, st: st, seen: map[xmpp.JID]bool{}}
	if err := w.keepBack(ctx); err != nil {
		return err
	}
	if !w.flexible {
		if err := s.manage(ctx); err != nil {
			return err
		}
	}
	s.presence, s.message = w.pending, w.message
	defer func() { s.presence, s.message = nil, nil }()
	here := xmpp.NewXML("presence").Leaf("show", "", "xa")
	if !s.sm && !w.flexible {
		here.Leaf("priority", "", "-1")
	}
	if err := s.send(ctx, here.Bytes()); err != nil {
		return err
	}
	if err := w.fetch(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.send(ctx, xmpp.NewXML("presence").Attr("type", "unavailable").Bytes())
}

// waiting takes what waits for an available resource.
type waiting struct {
	s        *Session
	sink     portable.Sink
	st       *State
	flexible bool // XEP-0013
	seen     map[xmpp.JID]bool
	messages int
}

// keepBack has the server keep messages back from this session, where it can: XEP-0013 §2.2.
func (w *waiting) keepBack(ctx context.Context) error {
	has, err := w.s.supports(ctx, w.s.me.Bare())
	if err != nil || !has[nsOffline] {
		return err
	}
	_, err = w.s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("query", nsInfo).Attr("node", nsOffline).Bytes()})
	w.flexible = err == nil
	if refused(err) {
		return nil
	}
	return err
}

// fetch reads them, and leaves them there: XEP-0013 §2.6. They may come behind the answer.
func (w *waiting) fetch(ctx context.Context) error {
	if !w.flexible {
		return nil
	}
	_, err := w.s.ask(ctx, query{typ: "get", raw: xmpp.NewXMLNS("offline", nsOffline).Leaf("fetch", "", "").Bytes()})
	if refused(err) {
		return nil
	}
	return err
}

// message takes one that nobody asked for. With XEP-0013 this resource may be the only one that gets it.
func (w *waiting) message(el *frame.Element) error {
	switch {
	case w.s.sm && w.s.delayed(el):
		return w.take(el)
	case w.flexible && el.HasChild(nsOffline, "offline"):
		return w.take(el.WithoutChildren(func(c frame.Child) bool { return c.NS == nsOffline }))
	case w.flexible && el.HasChild("", "body") && (el.Attr("type") == "" || el.Attr("type") == "chat" || el.Attr("type") == "normal"):
		if !w.s.delayed(el) {
			el = el.WithChild(xmpp.NewXMLNS("delay", nsDelay).Attr("from", w.s.me.Domain).Attr("stamp", time.Now().UTC().Format(time.RFC3339)).Bytes())
		}
		return w.take(el)
	}
	return nil
}

func (w *waiting) take(el *frame.Element) error {
	key := "waiting " + fmt.Sprintf("%x", sha256.Sum256(el.Raw))
	if w.messages++; w.messages > w.s.c.Limits.Requests || w.st.done[key] {
		return nil
	}
	if err := sunk(w.sink.Offline(el.Raw)); err != nil {
		return err
	}
	w.st.done[key] = true
	w.st.counts.Waiting++
	return nil
}

// manage turns stream management on where the server has it.
func (s *Session) manage(ctx context.Context) error {
	if s.sm || s.features == nil || !s.features.HasChild(nsSM, "sm") {
		return nil
	}
	if err := s.send(ctx, xmpp.NewXMLNS("enable", nsSM).Bytes()); err != nil {
		return err
	}
	until := time.Now().Add(s.c.Limits.Answer)
	for range s.c.Limits.Stray {
		el, err := s.next(ctx, until)
		if err != nil {
			return err
		}
		if el.NS == nsSM && (el.Name == "enabled" || el.Name == "failed") {
			s.sm = el.Name == "enabled"
			return nil
		}
		if err := s.unasked(ctx, el); err != nil {
			return err
		}
	}
	return s.fail(ctx, tooMuch("no answer among %d stanzas", s.c.Limits.Stray))
}

// pending takes a subscription request.
func (w *waiting) pending(el *frame.Element) error {
	if el.Attr("type") != "subscribe" {
		return nil
	}
	me := w.s.me.Bare()
	from, err := xmpp.ParseJID(strings.Clone(el.Attr("from"))) // which shares memory with the whole tag
	from = from.Bare()
	key := "request " + from.String()
	if err != nil || from == me || from == me.Host() || w.seen[from] || w.st.done[key] {
		return nil
	}
	if to := el.Attr("to"); to != "" {
		if j, err := xmpp.ParseJID(to); err != nil || j.Bare() != me {
			return nil
		}
	}
	if len(w.seen) >= w.s.c.Limits.Requests {
		return tooMuch("more than %d subscription requests", w.s.c.Limits.Requests)
	}
	w.seen[from] = true
	if err := sunk(w.sink.Pending(el.Raw)); err != nil {
		return err
	}
	w.st.done[key] = true
	w.st.counts.Requests++
	return nil
}

// delayed tells whether a message waited at the own server (XEP-0160, XEP-0203): one that somebody else dated did not.
func (s *Session) delayed(el *frame.Element) bool {
	if typ := el.Attr("type"); typ == "error" || typ == "groupchat" {
		return false
	}
	for _, c := range el.Node().Children {
		if c.NS != nsDelay || c.Name != "delay" {
			continue
		}
		from, err := xmpp.ParseJID(c.Attr("from"))
		if _, ok := stamp(c.Attr("stamp")); ok && (c.Attr("from") == "" || err == nil && (from == s.me.Host() || from == s.me.Bare())) {
			return true
		}
	}
	return false
}

// stamp reads a date of XEP-0082.
func stamp(v string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, v)
	return t.UTC(), err == nil && t.Year() >= 1990 && t.Year() < 2200
}
