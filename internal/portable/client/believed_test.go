package client_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp/frame"
)

// believing is a server that took a contact list from a file as it was there (Snikket's import does): its contacts' server knows of none of it, but for
// paris, who holds the new address. It has never heard of montague, whose server does not object.
func believing(f *fake) {
	list := map[string]string{}
	for _, name := range []string{"romeo@x.example", "paris@x.example", "benvolio@x.example", "montague@silent.example"} {
		list[name] = "subscription='both'"
	}
	list["nurse@x.example"] = "subscription='from'"
	item := func(jid string) string { return "<item jid='" + jid + "' name='x' " + list[jid] + "/>" }
	push := func(c *fakeConn, jid, state string) {
		list[jid] = state
		c.say("<iq type='set' id='p'><query xmlns='jabber:iq:roster'>" + item(jid) + "</query></iq>")
	}
	f.hear = func(c *fakeConn, el *frame.Element) bool {
		switch jid := el.Attr("to"); {
		case asks(el, "jabber:iq:roster") && el.Attr("type") == "get":
			all := ""
			for jid := range list {
				all += item(jid)
			}
			return c.result(el, "<query xmlns='jabber:iq:roster'>"+all+"</query>")
		case asks(el, "http://jabber.org/protocol/disco#info"):
			return c.result(el, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
		case el.Name == "presence" && jid == "": // it is available: the contacts' server is probed
			for _, name := range []string{"romeo@x.example", "benvolio@x.example"} {
				push(c, name, "subscription='from'")
				c.say("<presence type='unsubscribed' from='" + name + "'/>")
			}
			c.say("<presence type='unavailable' from='paris@x.example'/>")
		case el.Attr("type") == "subscribe" && strings.HasPrefix(list[jid], "subscription='from'"):
			push(c, jid, "subscription='from' ask='subscribe'")
			if jid == "romeo@x.example" {
				push(c, jid, "subscription='both'")
				c.say("<presence type='subscribed' from='" + jid + "'/>")
			}
		}
		return false
	}
}

// What the new account's list says already is no proof: everybody is asked once, and who only saw the owner is still to be told.
func TestMoverBelievesNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		believing(f)
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		m, err := s.Mover(t.Context(), client.Words{})
		if err != nil {
			t.Fatal(err)
		}
		var all []client.Contact
		for _, jid := range []string{"romeo@x.example", "paris@x.example", "benvolio@x.example", "montague@silent.example"} {
			all = append(all, contact(jid, "both"))
		}
		all = append(all, contact("nurse@x.example", "from"))
		if err := m.Verify(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if will := m.Will(c); will.Asked != (c.JID == "romeo@x.example" || c.JID == "benvolio@x.example") || will.Entered || will.Approved {
				t.Errorf("%+v", will)
			}
		}
		reports, err := m.Tell(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]client.Step{
			"romeo@x.example": client.StepFollowed, "paris@x.example": client.StepFollowed, "benvolio@x.example": client.StepWaiting,
			"montague@silent.example": client.StepWaiting, "nurse@x.example": client.StepApproved,
		}
		for _, r := range reports {
			if r.Step != want[r.JID] {
				t.Errorf("%+v, not %s", r, want[r.JID])
			}
			asked := strings.Count(f.all(), "type='subscribe' to='"+r.JID+"'><moved")
			if asked != 1 && r.JID != "nurse@x.example" || asked != 0 && r.JID == "nurse@x.example" {
				t.Errorf("%s was asked %d times", r.JID, asked)
			}
		}
	})
}

// In a later session the contact who was on the list before, and of whom nothing was seen, still waits; once he is off the list he is asked as others are.
func TestMoverBelievesNoListLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		believing(f)
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		m, err := s.Mover(t.Context(), client.Words{})
		if err != nil {
			t.Fatal(err)
		}
		before := func(c *client.Contact) { c.Asked, c.Listed = true, true }
		all := []client.Contact{contact("montague@silent.example", "both", before), contact("benvolio@x.example", "both", before)}
		if err := m.Verify(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		reports, err := m.Tell(t.Context(), all)
		if err != nil || reports[0].Step != client.StepWaiting || reports[1].Step != client.StepWaiting {
			t.Errorf("%+v, %v", reports, err)
		}
		if all := f.all(); strings.Contains(all, "type='subscribe' to='montague") || strings.Count(all, "type='subscribe' to='benvolio@x.example'><moved") != 1 {
			t.Error(all)
		}
	})
}
