package client_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/portable/client"
	"pibox/internal/testclient"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const askStatement = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'><item id='current'/></items></pubsub>"

// Who is named may read the statement, whatever he sees of the account, and nobody else.
func TestStatementForReaders(t *testing.T) {
	h := serve(t)
	h.member("juliet")
	romeo, paris := h.member("romeo"), h.member("paris")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := client.Dial(ctx, h.config("juliet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	// one that is there already, for presence subscribers, is configured anew
	if _, err := s.Publish(ctx, xmpp.MustJID("juliet@new.example"), nil); err != nil {
		t.Fatal(err)
	}
	readers := []xmpp.JID{xmpp.MustJID("juliet@new.example"), xmpp.MustJID("romeo@old.example"), xmpp.MustJID("elsewhere.example")}
	for range 2 {
		st, err := s.Publish(ctx, xmpp.MustJID("juliet@new.example"), readers)
		if err != nil || st.Access != "whitelist" || len(st.Lacks) > 0 {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	for who, want := range map[*testclient.Client]string{romeo: "result", paris: "error"} {
		if got, err := who.IQ(ctx, "get", "juliet@old.example", askStatement); err != nil || got.Attr("type") != want {
			t.Errorf("%s: %v, %v", who.Account(), got, err)
		}
	}
}

// A server that can not keep a list of readers serves the statement to presence subscribers, and that is told; never to everybody.
func TestStatementWithoutList(t *testing.T) {
	const refusal = "<error type='cancel'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
	for name, tt := range map[string]struct {
		whitelist, affiliations, forgets, ignores bool // what the server does wrong
	}{
		"refuses the access model":  {whitelist: true},
		"refuses the list":          {affiliations: true},
		"forgets the list":          {forgets: true},
		"keeps the list, not model": {ignores: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				access, published := "", false
				f.hear = func(c *fakeConn, el *frame.Element) bool {
					raw := string(el.Raw)
					no := func() bool { c.say("<iq type='error' id='" + el.Attr("id") + "'>" + refusal + "</iq>"); return true }
					set := func() bool {
						published = published || strings.Contains(raw, "<publish ") && !(tt.whitelist && strings.Contains(raw, ">whitelist<"))
						switch {
						case strings.Contains(raw, ">open<"):
							t.Error("for everybody")
						case !strings.Contains(raw, ">whitelist<"):
							access = "presence"
						case tt.whitelist:
							return no()
						case !tt.ignores:
							access = "whitelist"
						}
						return c.result(el, "")
					}
					switch {
					case strings.Contains(raw, "<items ") && !published:
						return no()
					case strings.Contains(raw, "<publish "), strings.Contains(raw, "<configure ") && el.Attr("type") == "set":
						return set()
					case strings.Contains(raw, "<configure "):
						return c.result(el, "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='urn:xmpp:moved:1'><x xmlns='jabber:x:data' type='form'>"+
							"<field var='pubsub#access_model'><value>"+access+"</value></field></x></configure></pubsub>")
					case strings.Contains(raw, "<affiliations ") && tt.affiliations:
						return no()
					case strings.Contains(raw, "<affiliations ") && el.Attr("type") == "get" && !tt.forgets:
						return c.result(el, "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><affiliations node='urn:xmpp:moved:1'>"+
							"<affiliation jid='romeo@elsewhere.example' affiliation='member'/></affiliations></pubsub>")
					case strings.Contains(raw, "<affiliations "):
						return c.result(el, "")
					case strings.Contains(raw, "<items "):
						return c.result(el, "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'><item id='current'>"+
							"<moved xmlns='urn:xmpp:moved:1'><new-jid>juliet@new.example</new-jid></moved></item></items></pubsub>")
					}
					return false
				}
				s, err := client.Dial(t.Context(), f.config())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				st, err := s.Publish(t.Context(), xmpp.MustJID("juliet@new.example"), []xmpp.JID{xmpp.MustJID("romeo@elsewhere.example")})
				if err != nil || st.Access != "presence" || access != "presence" || len(st.Lacks) != 1 || !strings.Contains(st.Lacks[0], "approve by hand") {
					t.Errorf("%+v, %v; it is %s", st, err, access)
				}
			})
		})
	}
}
