package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Session is a logged-in resource that is not available: it gets what it asks for and little else. It is not for concurrent use. An error of type
// *Error from any method is the end of it, and Close is all that is left; one of type *Refusal is the server's answer.
type Session struct {
	c        *Config
	conn     *tls.Conn
	rd       *frame.Reader
	me       xmpp.JID // full
	features *frame.Element
	sm       bool // XEP-0198 is on, and nothing is acknowledged
	ids      int
	prefix   string

	// presence sees what comes unasked from other accounts, message what is no answer; both may be nil.
	presence func(*frame.Element) error
	message  func(*frame.Element) error
	contacts *contacts // nil until asked for; roster pushes keep it
	later    map[string]later
}

// Refusal is an error that the server answered with.
type Refusal struct {
	Condition string // RFC 6120 §8.3.3
	Specific  string // of pubsub, XEP-0060 §15
	Text      string
}

func (r *Refusal) Error() string {
	text := "refused: " + r.Condition
	if r.Text != "" {
		text += " (" + quoted(r.Text) + ")"
	}
	return text
}

// lacking tells that a server does not have what it was asked for, rather than refusing it.
func lacking(err error) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.Condition {
	case "service-unavailable", "feature-not-implemented", "item-not-found":
		return true
	}
	return false
}

func refused(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}

// Account is the bare address.
func (s *Session) Account() xmpp.JID { return s.me.Bare() }

// Close ends the session in order; it waits for the server a second at the most.
func (s *Session) Close() error {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second))
	if write(s.conn, []byte("</stream:stream>")) == nil {
		for range s.c.Limits.Stray {
			if ev, err := s.rd.Next(); err != nil || ev.Kind == frame.KindEnd {
				break
			}
		}
	}
	return s.conn.Close()
}

// send writes a stanza.
func (s *Session) send(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.c.Limits.Answer)); err != nil {
		return s.fail(ctx, err)
	}
	return s.fail(ctx, write(s.conn, b))
}

func (s *Session) fail(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return at(s.c.Account.Domain, err)
}

// next reads the next top-level element until a time.
func (s *Session) next(ctx context.Context, until time.Time) (*frame.Element, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.conn.SetReadDeadline(until); err != nil {
		return nil, s.fail(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		ev, err := s.rd.Next()
		switch {
		case err != nil:
			return nil, s.fail(ctx, err)
		case ev.Kind == frame.KindEnd:
			return nil, s.fail(ctx, &Error{Kind: Ended})
		case ev.Kind == frame.KindSpace && !time.Now().Before(until): // a server that sends nothing but that
			return nil, s.fail(ctx, os.ErrDeadlineExceeded)
		case ev.Kind == frame.KindElement && ev.Element.NS == frame.NSStreams:
			return nil, s.fail(ctx, streamError(ev.Element))
		case ev.Kind == frame.KindElement:
			return ev.Element, nil
		}
	}
}

// query is a question to the server.
type query struct {
	typ string // get or set
	to  xmpp.JID
	raw []byte
	// each, where it is not nil, sees the messages that come before the answer and tells whether they belong to it; each that does gives the server
	// more time.
	each func(*frame.Element) (bool, error)
}

// sendQuery sends a question and gives its id.
func (s *Session) sendQuery(ctx context.Context, q query) (string, error) {
	if s.prefix == "" {
		s.prefix = strings.ToLower(rand.Text()[:10]) + "-"
	}
	s.ids++
	id := s.prefix + strconv.Itoa(s.ids)
	iq := xmpp.NewXML("iq").Attr("type", q.typ).Attr("id", id)
	if q.to != (xmpp.JID{}) {
		iq.Attr("to", q.to.String())
	}
	stanza := iq.Raw(q.raw).Bytes()
	if most := s.takes(); len(stanza) > most { // it would end the session
		return "", &Refusal{Condition: "policy-violation", Text: "it is larger than the " + strconv.Itoa(most) + " bytes that the server takes at a time"}
	}
	return id, s.send(ctx, stanza)
}

// takes is how many bytes a stanza may have: what the server says (XEP-0478), else the default of Prosody and ejabberd.
func (s *Session) takes() int {
	if s.features != nil {
		if most, err := strconv.Atoi(s.features.Node().Child(nsLimits, "limits").ChildText(nsLimits, "max-bytes")); err == nil && most >= 10_000 { // RFC 6120 §13.12
			return most
		}
	}
	return 256 << 10
}

// ask sends a question and gives the answer's payload, nil where it has none. Errors: *Refusal, and those that end the session.
func (s *Session) ask(ctx context.Context, q query) (*frame.Node, error) {
	id, err := s.sendQuery(ctx, q)
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(s.c.Limits.Answer)
	for stray := 0; stray <= s.c.Limits.Stray; stray++ {
		el, err := s.next(ctx, until)
		if err != nil {
			return nil, err
		}
		if el.Name == "iq" && el.NS == frame.NSClient && el.Attr("id") == id && s.from(el, q.to) {
			switch el.Attr("type") {
			case "result":
				return firstChild(el.Node()), nil
			case "error":
				return nil, refusal(el.Node())
			}
		}
		if q.each != nil && el.Name == "message" {
			mine, err := q.each(el)
			if err != nil {
				return nil, s.fail(ctx, err)
			}
			if mine {
				until, stray = time.Now().Add(s.c.Limits.Answer), -1
				continue
			}
		}
		if err := s.unasked(ctx, el); err != nil {
			return nil, err
		}
	}
	return nil, s.fail(ctx, tooMuch("no answer among %d stanzas", s.c.Limits.Stray))
}

func firstChild(n *frame.Node) *frame.Node {
	if n == nil || len(n.Children) == 0 {
		return nil
	}
	return n.Children[0]
}

// from tells whether a stanza comes from whom it has to (RFC 6120 §8.1.2.1): what was asked of the own account is answered by it, or without an
// address.
func (s *Session) from(el *frame.Element, to xmpp.JID) bool {
	from := el.Attr("from")
	if to == (xmpp.JID{}) {
		to = s.me.Bare()
	}
	if from == "" {
		return to == s.me.Bare() || to == s.me.Host()
	}
	j, err := xmpp.ParseJID(from)
	return err == nil && (j == to || to == s.me.Bare() && j == s.me)
}

func refusal(n *frame.Node) error {
	e := n.Child(frame.NSClient, "error")
	r := &Refusal{Condition: "undefined-condition"}
	if e == nil {
		return r
	}
	for _, c := range e.Children {
		switch {
		case c.NS == xmpp.NSStanzas && c.Name == "text":
			r.Text = c.Text
		case c.NS == xmpp.NSStanzas:
			r.Condition = quoted(c.Name)
		case c.NS == nsErrors:
			r.Specific = quoted(c.Name)
		}
	}
	return r
}

// unasked handles what is no answer to a question of ours.
func (s *Session) unasked(ctx context.Context, el *frame.Element) error {
	switch {
	case el.NS == nsSM && el.Name == "r":
		// Nothing was handled, ever: what this session gets beside its answers stays with the server for the account's devices.
		return s.send(ctx, []byte("<a xmlns='"+nsSM+"' h='0'/>"))
	case el.NS != frame.NSClient:
		return nil
	case el.Name == "iq":
		return s.request(ctx, el)
	case el.Name == "presence" && s.presence != nil:
		return s.fail(ctx, s.presence(el))
	case el.Name == "message" && s.message != nil:
		return s.fail(ctx, s.message(el))
	}
	return nil
}

// request answers a request to us.
func (s *Session) request(ctx context.Context, el *frame.Element) error {
	if typ := el.Attr("type"); typ != "get" && typ != "set" {
		s.answer(el)
		return nil
	}
	back := xmpp.NewXML("iq").Attr("id", el.Attr("id")).Attr("to", el.Attr("from"))
	own := s.from(el, s.me.Bare())
	switch {
	case own && el.Attr("type") == "set" && el.HasChild(nsRoster, "query"): // RFC 6121 §2.1.6: a push from anybody else is ignored
		if s.contacts != nil {
			if err := s.contacts.push(el.Node().Child(nsRoster, "query")); err != nil {
				return s.fail(ctx, err)
			}
		}
		return s.send(ctx, back.Attr("type", "result").Bytes())
	case el.HasChild(nsPing, "ping"), own && el.HasChild(nsBlocking, "block"), own && el.HasChild(nsBlocking, "unblock"):
		return s.send(ctx, back.Attr("type", "result").Bytes())
	}
	return s.send(ctx, back.Attr("type", "error").Open("error", "").Attr("type", "cancel").
		Leaf("service-unavailable", xmpp.NSStanzas, "").Close().Bytes())
}

// settle reads what the server hands out by itself, until it was silent for a while behind an answered ping, or for too long.
func (s *Session) settle(ctx context.Context) error {
	for _, pause := range []time.Duration{0, s.c.Limits.Settle} {
		if pause > 0 {
			if err := s.idle(ctx, pause, nil); err != nil {
				return err
			}
		}
		_, err := s.ask(ctx, query{typ: "get", to: s.me.Host(), raw: xmpp.NewXMLNS("ping", nsPing).Bytes()})
		if err != nil && !refused(err) {
			return err
		}
	}
	return nil
}

// idle reads for a time, or until what is waited for has come; nil waits for nothing.
func (s *Session) idle(ctx context.Context, d time.Duration, come func() bool) error {
	until := time.Now().Add(d)
	for range s.c.Limits.Stray {
		if come != nil && come() || !time.Now().Before(until) {
			return nil
		}
		el, err := s.next(ctx, until)
		var e *Error
		switch {
		case errors.As(err, &e) && e.Kind == TimedOut && !time.Now().Before(until):
			return nil
		case err != nil:
			return err
		}
		if err := s.unasked(ctx, el); err != nil {
			return err
		}
	}
	return s.fail(ctx, tooMuch("more than %d stanzas that nobody asked for", s.c.Limits.Stray))
}

// supports gives the identities ("category/type") and features that an address announces (XEP-0030).
func (s *Session) supports(ctx context.Context, who xmpp.JID) (map[string]bool, error) {
	info, err := s.ask(ctx, query{typ: "get", to: who, raw: xmpp.NewXMLNS("query", nsInfo).Bytes()})
	if err != nil && !refused(err) {
		return nil, err
	}
	has := map[string]bool{}
	if info == nil || info.NS != nsInfo {
		return has, nil
	}
	for _, c := range info.Children {
		switch {
		case len(has) > 2000:
			return nil, s.fail(ctx, tooMuch("%s announces more than 2000 features", who))
		case c.Name == "feature":
			has[c.Attr("var")] = true
		case c.Name == "identity":
			has[c.Attr("category")+"/"+c.Attr("type")] = true
		}
	}
	return has, nil
}

// word makes a count readable.
func word(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
