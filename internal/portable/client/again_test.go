package client_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// What the old address said is found in its archive, by its id; what somebody else said by that is not.
func TestSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			switch {
			case asks(el, "http://jabber.org/protocol/disco#info"):
				return c.result(el, "<query xmlns='http://jabber.org/protocol/disco#info'><feature var='urn:xmpp:mam:2'/></query>")
			case asks(el, "urn:xmpp:mam:2"):
				q := el.Node().Child("urn:xmpp:mam:2", "query").Attr("queryid")
				from := map[string]string{"id-romeo": "juliet@old.example/balcony", "id-paris": "paris@x.example/x"}[q]
				if from != "" {
					c.say("<message><result xmlns='urn:xmpp:mam:2' queryid='" + q + "' id='1'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='" + from +
						"' to='x@x.example' id='" + q + "'><body>x</body></message></forwarded></result></message>")
				}
				return c.result(el, "<fin xmlns='urn:xmpp:mam:2' complete='true'/>")
			}
			return false
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		var all []client.Message
		for _, name := range []string{"romeo", "paris", "nurse"} {
			all = append(all, client.Message{To: xmpp.MustJID(name + "@x.example"), ID: "id-" + name, Body: "I have moved"})
		}
		said, err := s.Said(t.Context(), all)
		if err != nil || len(said) != 1 || !said[xmpp.MustJID("romeo@x.example")] {
			t.Errorf("%v, %v", said, err)
		}
	})
}

// A statement that is served is not published once more: contacts' apps are told of each.
func TestStatementOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		served := ""
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			raw := string(el.Raw)
			switch {
			case strings.Contains(raw, "<publish "):
				served = "<item id='current'>" + string(el.Node().Child("", "pubsub").Child("", "publish").Child("", "item").Child("", "moved").Raw()) + "</item>"
				return c.result(el, "")
			case strings.Contains(raw, "<items ") && served != "":
				return c.result(el, "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'>"+served+"</items></pubsub>")
			}
			return false
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		for _, tt := range []struct {
			to   string
			want int
		}{{"juliet@new.example", 1}, {"juliet@new.example", 1}, {"juliet@other.example", 2}} {
			if _, err := s.Publish(t.Context(), xmpp.MustJID(tt.to), nil); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(f.all(), "<publish "); n != tt.want {
				t.Errorf("to %s: published %d times, not %d", tt.to, n, tt.want)
			}
		}
	})
}
