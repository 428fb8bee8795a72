package roster_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

// Small limits, so that transcripts reach them.
var limits = roster.Options{MaxItems: 4, MaxBytes: 500, MaxPending: 4, MaxRequest: 1000, MaxName: 20, MaxGroups: 3, Tombstones: 2, Resend: 12 * time.Hour}

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		roster.Register(r, presence.Register(r, presence.Options{}), limits)
		return transcript.Box{Router: r}
	})
}

func TestStreamFeatures(t *testing.T) {
	b := newBench(t)
	want := "<ver xmlns='urn:xmpp:features:rosterver'/><sub xmlns='urn:xmpp:features:pre-approval'/>"
	if got := string(b.r.StreamFeatures()); got != want {
		t.Errorf("stream features %s", got)
	}
}

// mirror is the state that a contact sees when both sides agree.
func mirror(f facts) facts { return facts{store.With(f.sub.From(), f.sub.To()), f.pending, f.out} }

func (b *bench) setState(who, of xmpp.JID, f facts) {
	if err := b.st.Update(func(tx *store.Tx) error {
		store.Roster.Put(tx, store.Key(who.String(), of.String()), store.RosterItem{Sub: f.sub, Ask: f.out})
		if f.pending {
			request := fmt.Sprintf("<presence type='subscribe' from='%s' to='%s'/>", of, who)
			store.Pending.Put(tx, store.Key(who.String(), of.String()), store.PendingIn{Stanza: []byte(request)})
		}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) state(who, of xmpp.JID) (f facts) {
	if err := b.st.View(func(tx *store.Tx) error {
		item, _ := store.Roster.Get(tx, store.Key(who.String(), of.String()))
		f = facts{item.Sub, item.Ask, store.Pending.Has(tx, store.Key(who.String(), of.String()))}
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	return f
}

// TestAppendixABetweenTwoHere lets each outbound cell meet the inbound cell of the contact's own state, both on this box.
func TestAppendixABetweenTwoHere(t *testing.T) {
	b := newBench(t)
	cells := tables(t)
	after := func(c cell) facts {
		if next, ok := states[c.next]; ok {
			return next
		}
		return states[c.state]
	}
	for _, c := range cells {
		if !c.outbound || c.approved {
			continue
		}
		b.n++
		contact := xmpp.MustJID(fmt.Sprintf("nurse%d@montague.example", b.n))
		b.r.SetExists(contact, true)
		b.setState(account, contact, states[c.state])
		b.setState(contact, account, mirror(states[c.state]))
		b.client(fmt.Sprintf("<presence type='%s' to='%s'/>", c.typ, contact))
		b.rest()
		want := mirror(states[c.state])
		for _, in := range cells {
			if c.pass && !in.outbound && !in.approved && in.typ == c.typ && states[in.state] == mirror(states[c.state]) {
				want = after(in)
			}
		}
		if got := b.state(account, contact); got != after(c) {
			t.Errorf("%s: the user's state is %+v", c, got)
		}
		if got := b.state(contact, account); got != want {
			t.Errorf("%s: the contact's state is %+v instead of %+v", c, got, want)
		}
	}
}

// TestChangeHook: others learn of each change of state inside its transaction.
func TestChangeHook(t *testing.T) {
	b := newBench(t)
	var got []string
	b.roster.OnChange(func(_ *store.Tx, out *xmpp.Out, c roster.Change) {
		out.After(func() {
			got = append(got, fmt.Sprintf("%s %s>%s %t>%t", c.Contact.Local, c.Old.Sub, c.Now.Sub, c.WasPending, c.Pending))
		})
	})
	b.peer("<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	b.peer("<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	b.client("<presence type='subscribed' to='juliet@capulet.example'/>")
	b.peer("<presence type='unsubscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	b.peer("<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	b.client("<presence type='unsubscribed' to='juliet@capulet.example'/>")
	b.client("<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='juliet@capulet.example' subscription='remove'/></query></iq>")
	b.rest()
	want := []string{
		"juliet none>none false>true", "juliet none>from true>false", "juliet from>none false>false", "juliet none>none false>true",
		"juliet none>none true>false", "juliet none>none false>false",
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("changes\n  %s\ninstead of\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// TestAskedOnce: a resource that comes online between the commit of a request and its delivery is asked once.
func TestAskedOnce(t *testing.T) {
	b := newBench(t)
	b.client("<presence type='unavailable'/>")
	gate := make(chan struct{})
	b.st.Submit(&store.Op{Run: func(*store.Tx) error { <-gate; return nil }})
	b.st.Submit(&store.Op{Run: func(tx *store.Tx) error { // its effect runs when the next operation is committed with it, before that one's
		tx.OnCommit(func() { b.client("<presence/>") })
		return nil
	}})
	b.peer("<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	close(gate)
	b.rest()
	n := 0
	for _, st := range b.got {
		if st.Type == "subscribe" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestVerifyingIsHidden: a request that claims a move is nobody's question until it is known to be one (docs/moved.md, row 5).
func TestVerifyingIsHidden(t *testing.T) {
	b := newBench(t)
	juliet := xmpp.MustJID("juliet@capulet.example")
	request := "<presence type='subscribe' from='juliet@capulet.example' to='romeo@montague.example'><x xmlns='urn:example:x'/></presence>"
	hide := func() {
		if err := b.st.Update(func(tx *store.Tx) error {
			store.Pending.Put(tx, store.Key(account.String(), juliet.String()), store.PendingIn{Stanza: []byte(request), Verifying: true})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	step := func(what string, act func(), want ...string) {
		b.got, b.sent = nil, nil
		act()
		b.rest()
		var seen []string
		for _, st := range append(b.got, b.sent...) {
			if st.From.Bare() != account || st.Kind == xmpp.Presence && st.Type != "" && st.Type != "unavailable" {
				seen = append(seen, strings.TrimSpace(st.Name+" "+st.Type))
			}
		}
		if strings.Join(seen, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s: seen %s instead of %s", what, strings.Join(seen, ", "), strings.Join(want, ", "))
		}
	}
	hide()
	step("initial presence", func() { b.client("<presence type='unavailable'/>"); b.client("<presence/>") })
	step("the same request without a claim", func() { b.peer(strings.Replace(request, "<x xmlns='urn:example:x'/>", "", 1)) })
	step("taken back", func() {
		b.peer("<presence type='unsubscribe' from='juliet@capulet.example' to='romeo@montague.example'/>")
	}, "presence unsubscribed")
	if f := b.state(account, juliet); f.pending {
		t.Error("it is still pending")
	}
	hide()
	step("found to be ordinary", func() {
		st, err := xmpp.ParseStanza([]byte(request))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
			store.Pending.Delete(tx, store.Key(account.String(), juliet.String()))
			return b.roster.InboundRequest(tx, out, &xmpp.Request{Stanza: st, Router: b.r, Class: xmpp.ToAccount})
		}); err != nil {
			t.Fatal(err)
		}
	}, "presence subscribe")
	if !b.got[0].HasChild("urn:example:x", "x") {
		t.Errorf("not whole: %s", b.got[0].Raw)
	}
	hide()
	step("approved all the same", func() { b.client("<presence type='subscribed' to='juliet@capulet.example'/>") }, "iq set", "presence subscribed")
	if f := b.state(account, juliet); f.pending || f.sub != store.SubFrom {
		t.Errorf("the state is %+v", f)
	}
}

// TestEpoch: versions that were given before an older backup was restored are not taken for ours.
func TestEpoch(t *testing.T) {
	b := newBench(t)
	set := func(name string) {
		b.client("<iq type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='juliet@capulet.example' name='" + name + "'/></query></iq>")
		b.rest()
	}
	get := func(ver string) (item bool, now string) {
		b.client("<iq type='get' id='g'><query xmlns='jabber:iq:roster' ver='" + ver + "'/></iq>")
		query := b.got[len(b.got)-1].Node().Child(roster.NS, "query")
		return query.Child(roster.NS, "item") != nil, query.Attr("ver")
	}
	set("J")
	if item, _ := get("1"); item {
		t.Error("nothing was new")
	}
	if err := b.st.Update(func(tx *store.Tx) error {
		store.Settings.Put(tx, store.SettingEpoch, []byte(`"e2"`))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	item, ver := get("1")
	if !item || ver != "e2.1" {
		t.Errorf("version 1 of the lost time gave items: %t, version %q", item, ver)
	}
	if item, _ := get(ver); item {
		t.Error("nothing was new after the restore")
	}
	set("K")
	if item, ver := get("e2.1"); !item || ver != "e2.2" {
		t.Errorf("pushed: %t, version %q", item, ver)
	}
}

// TestClear: contacts learn that an account goes, and nothing of it stays.
func TestClear(t *testing.T) {
	b := newBench(t)
	b.setState(account, xmpp.MustJID("juliet@capulet.example"), states["Both"])
	b.setState(account, xmpp.MustJID("nurse@capulet.example"), states["None + Pending Out+In"])
	b.setState(account, xmpp.MustJID("paris@capulet.example"), states["None"])
	b.sent = nil
	if err := b.r.Update(func(tx *store.Tx, out *xmpp.Out) error { return b.roster.Clear(tx, out, account) }); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, st := range b.sent {
		got = append(got, st.Type+" "+st.To.Local)
	}
	want := "unavailable juliet, unsubscribe juliet, unsubscribed juliet, unsubscribe nurse, unsubscribed nurse"
	if strings.Join(got, ", ") != want {
		t.Errorf("sent %s", strings.Join(got, ", "))
	}
	_ = b.st.View(func(tx *store.Tx) error {
		if n := store.Roster.Count(tx, account.String()) + store.Pending.Count(tx, account.String()); n > 0 || store.RosterV.Has(tx, account.String()) {
			t.Errorf("%d records stayed", n)
		}
		return nil
	})
}
