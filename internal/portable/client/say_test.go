package client_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Of each message it is known whether it arrived, came back, or should be said once more.
func TestSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForeign(t)
		f.away["down.example"] = true
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			to := el.Attr("to")
			back := func(from, condition string) {
				c.say("<message type='error' id='" + el.Attr("id") + "' from='" + from + "'><error type='cancel'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
			}
			switch {
			case el.Name == "message" && strings.HasPrefix(to, "nobody@"):
				back(to, "service-unavailable")
			case el.Name == "message" && strings.HasPrefix(to, "later@"): // its server is tried for a while
				back(to, "remote-server-timeout")
			case el.Name == "message" && strings.HasPrefix(to, "forged@"):
				back("mallory@up.example", "service-unavailable")
			case el.Name == "message", to == "silent.example":
			case to == "terse.example":
				c.say("<iq type='error' id='" + el.Attr("id") + "' from='" + to + "'><error type='cancel'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
			default:
				return f.answer(c, el)
			}
			return true
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		var all []client.Message
		for _, to := range []string{"romeo@up.example", "nobody@up.example", "forged@up.example", "later@up.example", "paris@down.example", "tybalt@silent.example", "nurse@terse.example"} {
			all = append(all, client.Message{To: xmpp.MustJID(to), ID: to, Language: "en", Body: "My address is another one now."})
		}
		back, err := s.Say(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{"nobody@up.example": false, "later@up.example": true, "paris@down.example": true, "tybalt@silent.example": true}
		if len(back) != len(want) {
			t.Errorf("%+v", back)
		}
		for to, again := range want {
			if got, ok := back[xmpp.MustJID(to)]; !ok || got.Again != again || got.Why == "" {
				t.Errorf("%s: %+v", to, got)
			}
		}
	})
}
