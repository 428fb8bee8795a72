package xmpp_test

import (
	"strings"
	"testing"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

type lastRaw struct{ raw string }

func (o *lastRaw) Deliver(st *xmpp.Stanza) bool { o.raw = string(st.Raw); return true }
func (o *lastRaw) Close(*xmpp.StreamError)      {}

// An address can be written in many ways; recipients see one.
func TestAddressesGoOnPrepared(t *testing.T) {
	inWorld(t, func(w *world) {
		got := &lastRaw{}
		w.Bind(xmpp.MustJID("b@here.example"), "Z", "3", got, xmpp.ConflictReplace)
		want := func(what, from string) {
			t.Helper()
			if !strings.Contains(got.raw, " from='"+from+"'") || !strings.Contains(got.raw, " to='b@here.example/Z'") || strings.Count(got.raw, "=") != 4 {
				t.Errorf("%s: %s", what, got.raw)
			}
			got.raw = ""
		}
		for _, from := range []string{"", " from='A@HERE.example/x'", " from='&#x61;@here.example'", " from='a@here.example/x'"} {
			w.send(w.a, "<iq type='result' id='1' to='B@here.EXAMPLE./Z'"+from+"/>")
			want("a session"+from, "a@here.example/x")
		}
		el, err := frame.Parse([]byte("<iq type='result' id='1' from='Eve@xn--bcher-kva.example' to='B@here.example/Z'/>"), xmpp.NSServer, frame.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := xmpp.NewStanza(el)
		if err != nil {
			t.Fatal(err)
		}
		w.FromPeer(&xmpp.Peer{Domain: st.From.Domain}, st)
		want("a peer", "eve@bücher.example")
	})
}
