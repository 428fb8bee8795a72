package client_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

func contact(jid string, sub store.Subscription, change ...func(*client.Contact)) client.Contact {
	c := client.Contact{RosterItem: portable.RosterItem{JID: jid, Name: "name of " + jid, Groups: []string{"G"}, Sub: sub}, Claim: xmpp.MustJID("juliet@before.example")}
	for _, f := range change {
		f(&c)
	}
	return c
}

// The new home's part at a server that approves in advance: each contact gets what moved.md says, once.
func TestMover(t *testing.T) {
	h := serve(t)
	h.member("juliet").Cut()
	romeo := h.member("romeo")
	if _, err := romeo.IQ(t.Context(), "get", "", "<query xmlns='jabber:iq:roster'/>"); err != nil {
		t.Fatal(err)
	}
	h.say(romeo, "<presence/>")
	s, err := client.Dial(t.Context(), h.config("juliet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := s.Mover(ctx, client.Words{Lang: "en", Text: "I have moved"})
	if err != nil {
		t.Fatal(err)
	}
	asked := func(c *client.Contact) { c.Ask = true }
	both := contact("romeo@old.example", store.SubBoth)
	for range 2 { // the second time changes nothing
		for _, tt := range []struct {
			contact client.Contact
			want    client.Step
		}{
			{both, client.StepWaiting},
			{contact("nurse@old.example", store.SubFrom), client.StepApproved},
			{contact("tybalt@old.example", store.SubNone), client.StepKept},
			{contact("juliet@old.example", store.SubBoth), client.StepFailed},
			{contact("@@", store.SubBoth), client.StepFailed},
		} {
			r, err := m.Tell(ctx, []client.Contact{tt.contact})
			if err != nil || r[0].Step != tt.want {
				t.Errorf("%s: %+v, %v", tt.contact.JID, r, err)
			}
		}
	}
	if r, err := m.Tell(ctx, []client.Contact{contact("paris@old.example", store.SubNone, asked)}); err != nil || r[0].Step == client.StepApproved {
		t.Errorf("%+v, %v", r, err)
	}
	got, err := romeo.Await(ctx, func(el *frame.Element) bool { return el.Attr("type") == "subscribe" })
	if err != nil || !strings.Contains(string(got.Raw), "<old-jid>juliet@before.example</old-jid>") || !strings.Contains(string(got.Raw), "I have moved") {
		t.Fatalf("romeo got %s, %v", got.Raw, err)
	}
	if err := romeo.Send("<presence type='subscribed' to='juliet@old.example'/><presence type='subscribe' to='juliet@old.example'/>"); err != nil {
		t.Fatal(err)
	}
	for m.Report(both).Step != client.StepFollowed {
		if err := m.Wait(ctx, 10*time.Millisecond, nil); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := romeo.Await(ctx, func(el *frame.Element) bool {
		return el.Attr("type") == "subscribe" || el.Attr("type") == "subscribed"
	}); err != nil || again == nil || again.Attr("type") != "subscribed" {
		t.Errorf("romeo got %+v, %v", again, err)
	}
	if item, _ := s.Contact(xmpp.MustJID("romeo@old.example")); item.Sub != store.SubBoth || item.Name != both.Name || len(item.Groups) != 1 {
		t.Errorf("%+v", item)
	}
	// Those who have moved away themselves are let go: what they were asked and given at the old address ends, what they gave stays theirs.
	left := func(c *client.Contact) { c.Left = true }
	all := []client.Contact{contact("romeo@old.example", store.SubBoth, left), contact("paris@old.example", store.SubNone, left), contact("nurse@old.example", store.SubFrom, left), contact("unknown@old.example", store.SubBoth, left)}
	for range 2 {
		if r, err := m.Tell(ctx, all); err != nil || r[0].Step != client.StepKept || r[3].Step != client.StepKept {
			t.Errorf("%+v, %v", r, err)
		}
	}
	want := map[string]portable.RosterItem{"romeo": {Sub: store.SubTo}, "paris": {Sub: store.SubNone}, "nurse": {Sub: store.SubNone}, "unknown": {}}
	for name, w := range want {
		got := func() bool {
			item, _ := s.Contact(xmpp.MustJID(name + "@old.example"))
			return item.Sub == w.Sub && !item.Ask && !item.Approved
		}
		if err := m.Wait(ctx, patience, got); err != nil || !got() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that can not approve in advance: the session answers the contacts who are expected, and nobody else. Who refused is not asked again.
func TestMoverWithoutApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		list := map[string]string{}
		push := func(c *fakeConn, jid, state string) {
			list[jid] = "<item jid='" + jid + "' " + state + "/>"
			c.say("<iq type='set' id='p'><query xmlns='jabber:iq:roster'>" + list[jid] + "</query></iq>")
		}
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			jid := el.Attr("to")
			switch {
			case asks(el, "jabber:iq:roster") && el.Attr("type") == "set":
				jid = el.Node().Child("", "query").Child("", "item").Attr("jid")
				push(c, jid, "subscription='none' name='x'")
				return c.result(el, "")
			case asks(el, "jabber:iq:roster") && el.Attr("type") == "get":
				all := ""
				for _, item := range list {
					all += item
				}
				return c.result(el, "<query xmlns='jabber:iq:roster'>"+all+"</query>")
			case el.Attr("type") == "subscribe" && jid == "tybalt@x.example":
				push(c, jid, "subscription='none' name='x'")
				c.say("<presence type='unsubscribed' from='" + jid + "'/>")
			case el.Attr("type") == "subscribe":
				push(c, jid, "subscription='to' name='x'")
				c.say("<presence type='subscribed' from='" + jid + "'/><presence type='subscribe' from='" + jid + "'/><presence type='subscribe' from='evil@x.example'/>")
			case el.Attr("type") == "subscribed":
				push(c, jid, "subscription='both' name='x'")
			}
			return false
		}
		c := f.config()
		s, err := client.Dial(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		m, err := s.Mover(t.Context(), client.Words{})
		if err != nil {
			t.Fatal(err)
		}
		romeo, tybalt, nurse := contact("romeo@x.example", store.SubBoth), contact("tybalt@x.example", store.SubTo), contact("nurse@x.example", store.SubFrom)
		if _, err := m.Tell(t.Context(), []client.Contact{romeo, tybalt, nurse}); err != nil {
			t.Fatal(err)
		}
		if err := m.Wait(t.Context(), time.Minute, nil); err != nil {
			t.Fatal(err)
		}
		tybalt.Asked = true
		again, err := m.Tell(t.Context(), []client.Contact{tybalt})
		if err != nil || again[0].Step != client.StepRefused || m.Report(romeo).Step != client.StepFollowed || m.Report(nurse).Step != client.StepExpected || !m.Open() {
			t.Errorf("%v, %+v, %+v, %+v", err, again, m.Report(romeo), m.Report(nurse))
		}
		all := f.all()
		if strings.Contains(all, "to='evil") || strings.Count(all, "to='tybalt@x.example'") != 1 || strings.Count(all, "type='subscribed'") != 1 {
			t.Error(all)
		}
	})
}

// What was brought from one account is given to another, and comes out of that one again.
func TestUpload(t *testing.T) {
	h := serve(t)
	h.furnish()
	h.member("julia").Cut()
	s, err := client.Dial(t.Context(), h.config("julia"))
	if err != nil {
		t.Fatal(err)
	}
	var lost []string
	for range 2 {
		u := s.Upload(t.Context(), func(l portable.Loss) { lost = append(lost, l.What) })
		if _, err := client.Bring(t.Context(), h.config("juliet"), u, client.Options{}); err != nil {
			t.Fatal(err)
		}
		if len(u.Contacts) != 2 {
			t.Errorf("%+v", u.Contacts)
		}
	}
	_ = s.Close()
	all := strings.Join(lost, "\n")
	for _, want := range []string{"keys of OMEMO", "10 messages of the archive", "10 messages that no device has got", "the request of paris@old.example"} {
		if strings.Count(all, want) != 2 {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
	if len(lost) != 8 {
		t.Error(all)
	}
	first, second := &notebook{}, &notebook{}
	for name, n := range map[string]*notebook{"juliet": first, "julia": second} {
		if _, err := client.Bring(t.Context(), h.config(name), n, client.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"vcard", "private", "node", "item", "blocked", "prefs"} {
		if a, b := strings.Join(first.with(prefix), "\n"), strings.Join(second.with(prefix), "\n"); a != b || a == "" {
			t.Errorf("%s\nand\n%s", a, b)
		}
	}
}

// A name that the DNS does not have, without any.
func TestNoName(t *testing.T) {
	c := client.Config{Account: xmpp.MustJID("juliet@old.example"), Password: "x", Roots: x509.NewCertPool, Resolver: nowhere()}
	if _, err := client.Dial(t.Context(), c); kind(err) != string(client.Unreachable) && kind(err) != string(client.NameNotFound) {
		t.Error(err)
	}
}
