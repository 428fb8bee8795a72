package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// blocks stands for the blocking feature.
type blocks struct {
	w    *world
	list []xmpp.JID
}

func (b *blocks) blocked(who xmpp.JID) bool {
	return slices.ContainsFunc(b.list, func(j xmpp.JID) bool { return j.Covers(who) })
}

func (b *blocks) set(entry string, on bool) {
	j := xmpp.MustJID(entry)
	if err := b.w.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if on {
			out.After(func() { b.list = append(b.list, j) })
			return b.w.presence.Block(tx, out, romeo, j)
		}
		out.After(func() { b.list = slices.DeleteFunc(b.list, func(x xmpp.JID) bool { return x == j }) })
		return b.w.presence.Unblock(tx, out, romeo, j)
	}); err != nil {
		b.w.t.Fatal(err)
	}
}

// XEP-0191 §3.3 and §3.4: who is blocked sees the account go, and nothing more until he is unblocked.
func TestBlocking(t *testing.T) {
	inWorld(t, func(w *world) {
		b := &blocks{w: w}
		w.FilterOut(func(rq *xmpp.Request) (bool, error) {
			if rq.Session != nil && b.blocked(rq.To) {
				return false, xmpp.Errorf("not-acceptable", "blocked")
			}
			return false, nil
		})
		w.subscribe("juliet@capulet.example", "nurse@capulet.example", "friar@church.example")
		if err := w.Update(func(tx *store.Tx, out *xmpp.Out) error {
			w.roster.Put(tx, out, romeo, xmpp.MustJID("juliet@capulet.example"), store.RosterItem{Sub: store.SubBoth})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s, other := w.bind("orchard"), w.bind("garden")
		w.from(s, "<presence/>")
		w.from(other, "<presence/>")
		w.from(s, "<presence to='room@capulet.example/Romeo'/>")
		w.sent = nil

		b.set("juliet@capulet.example", true)
		w.want("unavailable orchard juliet@capulet.example", "unavailable garden juliet@capulet.example")
		w.from(s, "<presence><status>1</status></presence>")
		w.want("available1 orchard friar@church.example", "available1 orchard nurse@capulet.example")
		b.set("juliet@capulet.example", false)
		w.want("available1 orchard juliet@capulet.example", "available garden juliet@capulet.example", "probe  juliet@capulet.example")

		b.set("capulet.example", true)
		w.want("unavailable orchard juliet@capulet.example", "unavailable garden juliet@capulet.example",
			"unavailable orchard nurse@capulet.example", "unavailable garden nurse@capulet.example", "unavailable orchard room@capulet.example/Romeo")
		w.from(s, "<presence type='unavailable'/>")
		w.want("unavailable orchard friar@church.example")
		w.from(s, "<presence/>") // initial again: neither presence nor a probe to who is blocked
		w.want("available orchard friar@church.example")
		b.set("capulet.example", false)
		w.want("available orchard juliet@capulet.example", "available garden juliet@capulet.example",
			"available orchard nurse@capulet.example", "available garden nurse@capulet.example", "probe  juliet@capulet.example")

		b.set("nurse@capulet.example/phone", true)
		w.want("unavailable orchard nurse@capulet.example/phone", "unavailable garden nurse@capulet.example/phone")
		b.set("stranger@capulet.example", true)
		w.want()
	})
}

// Hooks see a session's own presence and that of others, and nothing that is neither.
func TestHooks(t *testing.T) {
	inWorld(t, func(w *world) {
		var got []string
		note := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
		text := func(st *xmpp.Stanza) string {
			if st == nil {
				return "unavailable"
			}
			return "available" + st.Node().ChildText("", "status")
		}
		w.OnPresence(func(s *xmpp.Session, old, now *xmpp.Stanza) {
			_, prio := s.Presence()
			note("%s: %s, was %s, priority %d", s.JID.Resource, text(now), text(old), prio)
		})
		w.OnContactPresence(func(account xmpp.JID, st *xmpp.Stanza) { note("%s: %s %s", account, st.Type, st.From) })
		s := w.bind("orchard")
		w.from(s, "<presence><status>1</status><priority>7</priority></presence>")
		w.from(s, "<presence><status>2</status></presence>")
		w.from(s, "<presence to='romeo@montague.example'/>")
		for _, xml := range []string{"", "type='unavailable'", "type='error'", "type='probe'"} {
			w.peer("<presence from='juliet@capulet.example/x' to='romeo@montague.example' " + xml + "/>")
			w.peer("<presence from='juliet@capulet.example/x' to='romeo@montague.example/orchard' " + xml + "/>")
		}
		w.Unbind(s)
		want := []string{
			"orchard: available1, was unavailable, priority 7", "orchard: available2, was available1, priority 0",
			"romeo@montague.example:  juliet@capulet.example/x", "romeo@montague.example:  juliet@capulet.example/x",
			"romeo@montague.example: unavailable juliet@capulet.example/x", "romeo@montague.example: unavailable juliet@capulet.example/x",
			"orchard: unavailable, was available2, priority 0",
		}
		if !slices.Equal(got, want) {
			t.Errorf("hooks saw\n  %s\nexpected\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	})
}

// A card wears out: only the going of the last resource is written.
func TestLastSeenIsWrittenOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		s, other := w.bind("orchard"), w.bind("garden")
		seen := func() (l store.Last, ok bool) {
			w.want()
			_ = w.Store.View(func(tx *store.Tx) error { l, ok = store.LastSeen.Get(tx, romeo.String()); return nil })
			return l, ok
		}
		w.from(s, "<presence/>")
		w.from(other, "<presence/>")
		w.from(s, "<presence type='unavailable'><status>not yet</status></presence>")
		w.Unbind(s)
		if _, ok := seen(); ok {
			t.Error("written while a resource is left")
		}
		w.from(other, "<presence type='unavailable'><status>"+strings.Repeat("ä", 1000)+"</status></presence>")
		if l, _ := seen(); l.Status != strings.Repeat("ä", 511) || l.At.IsZero() {
			t.Errorf("written: %d bytes at %s", len(l.Status), l.At)
		}
		w.Unbind(other)
		if l, _ := seen(); l.Status == "" {
			t.Error("written again")
		}
	})
}
