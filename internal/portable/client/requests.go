package client

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// bringRequests becomes available, because servers hand out what waits for the account only then (RFC 6121 §3.1.3, §8.5.2): subscription requests,
// and messages that no device has got. Where the server does stream management (XEP-0198) nothing is ever acknowledged, so that all of it waits there
// still afterwards; else the resource gets a negative priority, which gets no messages, and with some servers no requests.
func (s *Session) bringRequests(ctx context.Context, sink portable.Sink, st *State) error {
	if err := s.manage(ctx); err != nil {
		return err
	}
	seen := map[xmpp.JID]bool{}
	s.presence = func(el *frame.Element) error { return s.pending(el, sink, st, seen) }
	waiting := 0
	s.message = func(el *frame.Element) error {
		if !s.sm || !s.delayed(el) || waiting >= s.c.Limits.Requests {
			return nil
		}
		waiting++
		key := "waiting " + fmt.Sprintf("%x", sha256.Sum256(el.Raw))
		if st.done[key] {
			return nil
		}
		if err := sunk(sink.Offline(el.Raw)); err != nil {
			return err
		}
		st.done[key] = true
		st.counts.Waiting++
		return nil
	}
	defer func() { s.presence, s.message = nil, nil }()
	here := xmpp.NewXML("presence").Leaf("show", "", "xa")
	if !s.sm {
		here.Leaf("priority", "", "-1")
	}
	if err := s.send(ctx, here.Bytes()); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.send(ctx, xmpp.NewXML("presence").Attr("type", "unavailable").Bytes())
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
func (s *Session) pending(el *frame.Element, sink portable.Sink, st *State, seen map[xmpp.JID]bool) error {
	if el.Attr("type") != "subscribe" {
		return nil
	}
	from, err := xmpp.ParseJID(el.Attr("from"))
	if err != nil || from.Local == "" && from.Domain == s.me.Domain || from.Bare() == s.me.Bare() || seen[from.Bare()] || st.done["request "+from.Bare().String()] {
		return nil
	}
	if to := el.Attr("to"); to != "" {
		if j, err := xmpp.ParseJID(to); err != nil || j.Bare() != s.me.Bare() {
			return nil
		}
	}
	if len(seen) >= s.c.Limits.Requests {
		return tooMuch("more than %d subscription requests", s.c.Limits.Requests)
	}
	seen[from.Bare()] = true
	if err := sunk(sink.Pending(el.Raw)); err != nil {
		return err
	}
	st.done["request "+from.Bare().String()] = true
	st.counts.Requests++
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
