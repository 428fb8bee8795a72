package moved

import (
	"testing"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

func TestParseURI(t *testing.T) {
	for in, want := range map[string]string{
		"xmpp:juliet@capulet.example":              "juliet@capulet.example",
		" XMPP:juliet@capulet.example\n":           "juliet@capulet.example",
		"xmpp:Juliet@Capulet.EXAMPLE":              "juliet@capulet.example",
		"xmpp:j%c3%bcl%C3%AFa@capulet.example":     "jülïa@capulet.example",
		"xmpp:jülïa@capulet.example":               "jülïa@capulet.example", // an IRI
		"xmpp:juliet@xn--mller-kva.example":        "juliet@müller.example",
		"xmpp:juliet@m%C3%BCller.example":          "juliet@müller.example",
		"xmpp:ju%6Ciet@capulet%2Eexample":          "juliet@capulet.example",
		"xmpp:juliet+x@capulet.example":            "juliet+x@capulet.example",
		"xmpp:a%25b@capulet.example":               "a%b@capulet.example",
		"xmpp:juliet@192.0.2.1":                    "juliet@192.0.2.1",
		"juliet@capulet.example":                   "",
		"":                                         "",
		"xmpp:":                                    "",
		"xmpp:capulet.example":                     "",
		"xmpp:@capulet.example":                    "",
		"xmpp:juliet@":                             "",
		"xmpp:juliet@capulet.example/phone":        "",
		"xmpp:juliet@capulet.example/":             "",
		"xmpp:juliet@capulet.example?":             "",
		"xmpp:juliet@capulet.example?message":      "",
		"xmpp:juliet@capulet.example#x":            "",
		"xmpp://guest@other/juliet@capulet.exampl": "",
		"xmpp:///juliet@capulet.example":           "",
		"xmpp:a%40b@capulet.example":               "",
		"xmpp:a%2Fb@capulet.example":               "",
		"xmpp:juliet@capulet.example%2Fphone":      "",
		"xmpp:juliet%40capulet.example":            "",
		"xmpp:a@b@capulet.example":                 "",
		"xmpp:%zz@capulet.example":                 "",
		"xmpp:juliet%@capulet.example":             "",
		"xmpp:juliet%00@capulet.example":           "",
		"xmpp:juliet%ff@capulet.example":           "",
		"xmpp:juliet%20@capulet.example":           "",
		"xmpps:juliet@capulet.example":             "",
		"mailto:juliet@capulet.example":            "",
		"\u00a0xmpp:juliet@capulet.example":        "",
	} {
		j, ok := parseURI(in)
		if ok != (want != "") || ok && j.String() != want {
			t.Errorf("%q: %q %v, expected %q", in, j, ok, want)
		}
	}
}

func TestURIRoundTrip(t *testing.T) {
	for _, s := range []string{"juliet@capulet.example", "jülïa@müller.example", "a%b(c);d?e#f=g@192.0.2.1", "100%@[2001:db8::1]", "+@x"} {
		j, err := xmpp.ParseJID(s)
		if err != nil {
			t.Fatal(s, err)
		}
		if back, ok := parseURI(uri(j)); !ok || back != j {
			t.Errorf("%s: %s, back %s %v", s, uri(j), back, ok)
		}
	}
}

// FuzzStatement reads what comes from outside: a claim in a request, a statement in a result, an address in an error. Whatever it is, an
// address that is accepted is bare, names an account, and is what its own text is prepared to.
func FuzzStatement(f *testing.F) {
	for _, s := range []string{
		"<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'><moved xmlns='urn:xmpp:moved:1'><old-jid>Juliet@im.example.net</old-jid></moved></presence>",
		"<presence xmlns:m='urn:xmpp:moved:1' type='subscribe' from='a@b'><m:moved><m:old-jid>Straße@xn--mller-kva.example</m:old-jid></m:moved></presence>",
		"<presence type='subscribe' from='a@b'><moved xmlns='urn:xmpp:moved:1'><old-jid>a@b</old-jid><old-jid>c@d</old-jid></moved></presence>",
		"<iq type='result'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'><item id='current'><moved xmlns='urn:xmpp:moved:1'><new-jid>\n juliet@capulet.example</new-jid><x xmlns='y'/></moved></item></items></pubsub></iq>",
		"<iq type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:j%C3%BClia@capulet.example</gone></error></iq>",
		"xmpp:juliet@capulet.example", "xmpp:a%25@[::1]", "xmpp://x@y/z", "a@b/c",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(what string, j xmpp.JID, ok bool) {
			if !ok {
				return
			}
			again, err := xmpp.ParseJID(j.String())
			if err != nil || again != j || !j.IsBare() || j.Local == "" {
				t.Errorf("%s accepts %+v, which is %+v %v", what, j, again, err)
			}
			if back, ok := parseURI(uri(j)); !ok || back != j {
				t.Errorf("%s: the URI of %+v is %s, which is %+v %v", what, j, uri(j), back, ok)
			}
		}
		j, ok := parseURI(string(b))
		check("a URI", j, ok)
		j, ok = bareJID(trim(string(b)))
		check("an address", j, ok)
		el, err := frame.Parse(b, xmpp.NSClient, frame.Limits{Bytes: 1 << 16, Depth: 32, Attrs: 32, Children: 256})
		if err != nil {
			return
		}
		st, err := xmpp.NewStanza(el)
		if err != nil {
			return
		}
		j, ok = oldJID(st)
		check("a claim", j, ok)
		if ok && j == st.From.Bare() {
			t.Errorf("the sender claims to have been himself")
		}
		j, ok = target(st)
		check("a reply", j, ok)
	})
}
