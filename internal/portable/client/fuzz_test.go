package client

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"pibox/internal/portable"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// FuzzChallenge gives the login any challenge of SCRAM: what is let through to mellium is one that its parser ends on, with iterations that a small
// box can do.
func FuzzChallenge(f *testing.F) {
	for _, s := range []string{"r=nonceX,s=QUFBQQ==,i=4096", "r=nonceX,s=QUFBQQ==,i=4096,", "", "a", "r=nonce,s=,i=1", "m=x,r=nonceX,s=a=,i=9999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, challenge string) {
		if checkChallenge([]byte(challenge), []byte("nonce")) != nil {
			return
		}
		for part := range strings.SplitSeq(challenge, ",") {
			if len(part) < 3 || part[1] != '=' {
				t.Errorf("%q has a part %q", challenge, part)
			}
		}
		if !strings.HasPrefix(challenge, "r=nonce") || strings.Count(challenge, "i=") < 1 || strings.HasPrefix(challenge, "r=nonce,") {
			t.Errorf("%q was accepted", challenge)
		}
	})
}

// discard is a Sink that only checks what it gets.
type discard struct {
	portable.Sink
	t *testing.T
}

func (d discard) Archived(m portable.Archived) error {
	if _, err := frame.Parse(m.Stanza, frame.NSClient, frame.Limits{Children: 60_000}); err != nil || m.ID == "" || m.At.IsZero() {
		d.t.Errorf("%q: %v", m.Stanza, err)
	}
	return nil
}

func (d discard) Offline(b []byte) error { return d.Pending(b) }

func (d discard) Pending(b []byte) error {
	if _, err := frame.Parse(b, frame.NSClient, frame.Limits{Children: 60_000}); err != nil {
		d.t.Errorf("%q: %v", b, err)
	}
	return nil
}

// FuzzStanza gives the parts that read stanzas any one: nothing panics, and what goes to the sink stands alone.
func FuzzStanza(f *testing.F) {
	for _, s := range []string{
		"<message><result xmlns='urn:xmpp:mam:2' queryid='q' id='1'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/><message xmlns='jabber:client' to='juliet@old.example'/></forwarded></result></message>",
		"<presence type='subscribe' from='a@b.example'/>",
		"<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='a@b.example' name='x' subscription='both'><group>g</group></item></query></iq>",
		"<message><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z' from='old.example'/></message>",
		"<iq><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='1'><a xmlns='http://www.w3.org/2005/Atom'/></item></items></pubsub></iq>",
		"<iq><moved xmlns='urn:xmpp:moved:1'><new-jid>a@b.example</new-jid></moved></iq>",
		"<iq type='error'><error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text/></error></iq>",
		"<stream:error xmlns:stream='http://etherx.jabber.org/streams'/>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		el, err := frame.Parse(raw, frame.NSClient, frame.Limits{})
		if err != nil {
			return
		}
		s := &Session{c: &Config{Limits: Limits{}.orDefault()}, me: xmpp.MustJID("juliet@old.example/x")}
		st, sink := &State{done: map[string]bool{}}, discard{t: t}
		p := &page{s: s, sink: sink, st: st, ns: "urn:xmpp:mam:2", query: "q", ids: map[string]bool{}}
		_, _ = p.result(el)
		w := &waiting{s: s, sink: sink, st: st, seen: map[xmpp.JID]bool{}, flexible: true}
		_, _ = w.pending(el), w.message(el)
		s.sm = true
		_ = w.message(el)
		_ = refusal(el.Node())
		_ = streamError(el)
		n := firstChild(el.Node())
		newJID(n)
		if n == nil {
			return
		}
		c := &contacts{limit: 10, own: s.me.Bare(), items: map[xmpp.JID]portable.RosterItem{}}
		_ = c.push(n)
		for _, item := range c.list() {
			if len(item.Name) > maxName || item.JID == "" {
				t.Errorf("%+v", item)
			}
		}
		if list := n.Child(nsPubSub, "items"); list != nil {
			items, _, _ := s.items(list)
			for _, it := range items {
				if _, err := frame.Parse(it.Payload, frame.NSClient, frame.Limits{Children: 60_000}); err != nil {
					t.Errorf("%q: %v", it.Payload, err)
				}
			}
		}
	})
}

// FuzzNegotiation gives the beginning of a connection, before TLS, any bytes.
func FuzzNegotiation(f *testing.F) {
	f.Add([]byte("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"))
	f.Add([]byte("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rd := frame.NewReader(bytes.NewReader(in), frame.Limits{Bytes: 64 << 10})
		for {
			_, err := negotiating(rd)
			if err == nil {
				continue
			}
			if err = at("x", err); err == io.EOF || err.Error() == "" {
				t.Errorf("%v is no error for a person", err)
			}
			return
		}
	})
}
