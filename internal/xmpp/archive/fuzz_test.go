package archive

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Whatever a query holds, it is understood or refused with an error for its sender, and understood the same way each time.
func FuzzQuery(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		el, err := frame.Parse(raw, xmpp.NSClient, frame.Limits{})
		if err != nil {
			return
		}
		q, err := parseQuery(el.Node())
		var se *xmpp.StanzaError
		if err != nil {
			if !errors.As(err, &se) {
				t.Fatalf("an error that is not for the sender: %v", err)
			}
			return
		}
		if q.max < 0 || q.max > maxPage || len(q.ids) > maxIDs || q.id != nil && len(*q.id) > maxQueryID {
			t.Errorf("beyond the limits: %+v", q)
		}
		if !q.with.IsZero() {
			if again, err := xmpp.ParseJID(q.with.String()); err != nil || again != q.with {
				t.Errorf("with %q is not prepared", q.with)
			}
		}
		if up := ceil(q.start); up.Before(q.start) || up.Sub(q.start) >= time.Millisecond {
			t.Errorf("%v is rounded to %v", q.start, up)
		}
		if again, err := parseQuery(el.Node()); err != nil || !reflect.DeepEqual(q, again) {
			t.Errorf("understood as %+v, then as %+v, %v", q, again, err)
		}
	})
}

// What is accepted as preferences is told back as such: to set what was told changes nothing.
func FuzzPrefs(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		el, err := frame.Parse(raw, xmpp.NSClient, frame.Limits{})
		if err != nil {
			return
		}
		const limit = 10
		pref, err := parsePrefs(el.Node(), limit)
		var se *xmpp.StanzaError
		if err != nil {
			if !errors.As(err, &se) {
				t.Fatalf("an error that is not for the sender: %v", err)
			}
			return
		}
		if len(pref.Always)+len(pref.Never) > limit {
			t.Errorf("too much: %+v", pref)
		}
		told, err := frame.Parse(prefsXML(pref), xmpp.NSClient, frame.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parsePrefs(told.Node(), limit); err != nil || !reflect.DeepEqual(pref, again) {
			t.Errorf("%+v is told back as %+v, %v", pref, again, err)
		}
	})
}

// A result is one stanza with the stored one inside, whatever that holds.
func FuzzResult(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		el, err := frame.Parse(raw, xmpp.NSClient, frame.Limits{})
		if err != nil || el.Name != "message" || el.NS != xmpp.NSClient {
			return
		}
		p := &page{account: "romeo@montague.example"}
		rq := &xmpp.Request{Stanza: &xmpp.Stanza{From: xmpp.MustJID("romeo@montague.example/x")}}
		st, err := xmpp.ParseStanza(resultXML(rq, p, found{id: "1", Owned: store.Owned{}}, el.Raw))
		if err != nil {
			t.Fatalf("%v: %s", err, el.Raw)
		}
		inner := st.Node().Child(NS, "result").Child(nsForward, "forwarded").Child(xmpp.NSClient, "message")
		if !same(inner, el.Node()) {
			t.Errorf("%s\nis forwarded as\n%s", el.Raw, st.Raw)
		}
	})
}

func same(a, b *frame.Node) bool {
	if a == nil || b == nil || a.Name != b.Name || a.NS != b.NS || a.Text != b.Text || len(a.Attrs) != len(b.Attrs) || len(a.Children) != len(b.Children) {
		return false
	}
	for i := range a.Attrs {
		if a.Attrs[i].Name != b.Attrs[i].Name || a.Attrs[i].NS != b.Attrs[i].NS || a.Attrs[i].Value != b.Attrs[i].Value {
			return false
		}
	}
	for i := range a.Children {
		if !same(a.Children[i], b.Children[i]) {
			return false
		}
	}
	return true
}
