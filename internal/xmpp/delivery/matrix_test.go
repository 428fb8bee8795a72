package delivery_test

import (
	"fmt"
	"strings"
	"testing"

	"pibox/internal/transcript"
	"pibox/internal/xmpp/delivery"
)

// RFC 6121 §8.5: every type, to the account and to a resource, in every state of the one resource that there may be.
func TestAddressing(t *testing.T) {
	t.Parallel()
	const received, waits, refused, dropped = "received", "waits", "refused", "dropped"
	states := []string{"available", "negative", "unavailable", "detached", "absent"}
	for _, tt := range []struct {
		typ, to string
		want    [5]string // by state
	}{
		{"normal", "", [5]string{received, waits, waits, received, waits}},
		{"chat", "", [5]string{received, waits, waits, received, waits}},
		{"unknown", "", [5]string{received, waits, waits, received, waits}},
		{"headline", "", [5]string{received, dropped, dropped, received, dropped}},
		{"groupchat", "", [5]string{refused, refused, refused, refused, refused}},
		{"error", "", [5]string{dropped, dropped, dropped, dropped, dropped}},
		{"normal", "/balcony", [5]string{received, received, received, received, refused}},
		{"chat", "/balcony", [5]string{received, received, received, received, waits}},
		{"unknown", "/balcony", [5]string{received, received, received, received, refused}},
		{"headline", "/balcony", [5]string{received, received, received, received, dropped}},
		{"groupchat", "/balcony", [5]string{received, received, received, received, refused}},
		{"error", "/balcony", [5]string{received, received, received, received, dropped}},
	} {
		for i, state := range states {
			want := tt.want[i]
			t.Run(tt.typ+strings.Replace(tt.to, "/", "_to_", 1)+"_"+state, func(t *testing.T) {
				t.Parallel()
				m := fmt.Sprintf("<message type='%s' id='m' from='romeo@montague.example/orchard' to='juliet@capulet.example%s'><body>hear me</body><error type='cancel'/></message>", tt.typ, tt.to)
				conversation := tt.typ == "normal" || tt.typ == "chat" || tt.typ == "unknown"
				text := "box montague.example capulet.example\naccount romeo = romeo@montague.example\naccount juliet = juliet@capulet.example\nromeo/orchard connects\n" +
					inState(state) + "romeo/orchard sends " + m + "\n"
				switch want {
				case received:
					id := "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.example' id='*'/></message>"
					if !conversation {
						id = "</message>"
					}
					text += "juliet/balcony receives " + strings.Replace(m, "</message>", id, 1) + "\n"
				case waits:
					text += "offline juliet = 1\n"
				case refused:
					text += "romeo/orchard receives <message type='error' id='m' from='juliet@capulet.example" + tt.to + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"
				}
				if conversation { // what was sent is what was sent
					text += "archive romeo = to juliet@capulet.example: hear me\n"
				} else {
					text += "archive romeo =\n"
				}
				if conversation && want != refused {
					text += "archive juliet = from romeo@montague.example: hear me\n"
				} else {
					text += "archive juliet =\n"
				}
				transcript.Run(t, text, starter(delivery.Options{}))
			})
		}
	}
}

func inState(state string) string {
	const connects = "juliet/balcony connects\n"
	switch state {
	case "available":
		return connects + "juliet/balcony sends <presence/>\n"
	case "negative":
		return connects + "juliet/balcony sends <presence><priority>-1</priority></presence>\n"
	case "unavailable":
		return connects
	case "detached":
		return "juliet/balcony connects acknowledging\njuliet/balcony sends <presence/>\njuliet/balcony detaches\n"
	}
	return ""
}

// XEP-0334 and XEP-0280 §9, all together, in both directions: what is copied, what is archived, what waits.
func TestHints(t *testing.T) {
	t.Parallel()
	hints := []string{
		"<private xmlns='urn:xmpp:carbons:2'/>", "<no-copy xmlns='urn:xmpp:hints'/>", "<no-store xmlns='urn:xmpp:hints'/>",
		"<no-permanent-store xmlns='urn:xmpp:hints'/>", "<store xmlns='urn:xmpp:hints'/>",
	}
	contents := []struct {
		name, typ, xml                     string
		text                               string // in the archive
		copied, archived, archivable, owed bool   // without hints; archivable: with store
	}{
		{"chat", "chat", "<body>hi</body>", "hi", true, true, true, true},
		{"normal", "normal", "<body>hi</body>", "hi", true, true, true, true},
		{"subject", "normal", "<subject>hi</subject>", "(subject)", false, false, true, true},
		{"state", "chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", "", true, false, false, false},
		{"receipt", "normal", "<received xmlns='urn:xmpp:receipts' id='1'/>", "(received)", true, true, true, true},
		{"headline", "headline", "<body>hi</body>", "hi", false, false, true, false},
		{"groupchat", "groupchat", "<body>hi</body>", "hi", false, false, false, false},
	}
	for _, c := range contents {
		for set := range 1 << len(hints) {
			t.Run(fmt.Sprintf("%s_%05b", c.name, set), func(t *testing.T) {
				t.Parallel()
				xml := c.xml
				for i, h := range hints {
					if set&(1<<i) != 0 {
						xml += h
					}
				}
				private, noCopy, noStore, noPermanent, store := set&1 != 0, set&2 != 0, set&4 != 0, set&8 != 0, set&16 != 0
				copied := c.copied && !private && !noCopy
				archived := (c.archived || c.archivable && store) && !noStore && !noPermanent
				transcript.Run(t, hintScript(c.typ, xml, c.text, copied, archived, c.owed && !noStore), starter(delivery.Options{}))
			})
		}
	}
}

func hintScript(typ, xml, text string, copied, archived, owed bool) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	message := func(to string) string { return fmt.Sprintf("<message type='%s' to='%s'>%s</message>", typ, to, xml) }
	own := message("romeo@montague.example/orchard")
	say("box montague.example\naccount romeo = romeo@montague.example\naccount juliet = juliet@montague.example")
	say("romeo/orchard connects\nromeo/home connects\nromeo/home sends <iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>\nromeo/home forgets")
	// out
	say("romeo/orchard sends %s", message("nurse@verona.example"))
	say("verona.example receives %s", message("nurse@verona.example"))
	if copied {
		say("romeo/home receives <message type='%s'><sent xmlns='urn:xmpp:carbons:2'><etc/></sent></message>", typ)
	}
	// in
	say("verona.example sends %s", strings.Replace(own, "<message", "<message from='nurse@verona.example/x'", 1))
	if archived {
		own = strings.Replace(own, "</message>", "<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@montague.example' id='*'/></message>", 1)
	}
	say("romeo/orchard receives %s", own)
	if copied {
		say("romeo/home receives <message type='%s'><received xmlns='urn:xmpp:carbons:2'><etc/></received></message>", typ)
	}
	if archived {
		say("archive romeo = to nurse@verona.example: %[1]s; from nurse@verona.example: %[1]s", text)
	} else {
		say("archive romeo =")
	}
	// to somebody who is not there
	say("verona.example sends %s\nall forget", strings.Replace(message("juliet@montague.example"), "<message", "<message from='nurse@verona.example/x'", 1))
	n := 0
	if owed {
		n = 1
	}
	say("offline juliet = %d\nnobody receives anything", n)
	return b.String()
}
