package client_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp/frame"
)

// foreign is a new home that approves in advance without showing it, as Prosody does.
type foreign struct {
	*fake
	list map[string]string // contacts by address
	away map[string]bool   // domains that can not be reached
}

func newForeign(t *testing.T) *foreign {
	f := &foreign{fake: newFake(t), list: map[string]string{}, away: map[string]bool{}}
	f.bound = "<sub xmlns='urn:xmpp:features:pre-approval'/>"
	f.hear = f.answer
	return f
}

func (f *foreign) push(c *fakeConn, jid, state string) {
	f.list[jid] = "<item jid='" + jid + "' name='x' " + state + "/>"
	c.say("<iq type='set' id='p'><query xmlns='jabber:iq:roster'>" + f.list[jid] + "</query></iq>")
}

func (f *foreign) answer(c *fakeConn, el *frame.Element) bool {
	to := el.Attr("to")
	_, domain, _ := strings.Cut(to, "@")
	switch {
	case asks(el, "jabber:iq:roster") && el.Attr("type") == "set":
		f.push(c, el.Node().Child("", "query").Child("", "item").Attr("jid"), "subscription='none'")
		return c.result(el, "")
	case asks(el, "jabber:iq:roster"):
		all := ""
		for _, item := range f.list {
			all += item
		}
		return c.result(el, "<query xmlns='jabber:iq:roster'>"+all+"</query>")
	case asks(el, "http://jabber.org/protocol/disco#info") && f.away[to]:
		c.say("<iq type='error' id='" + el.Attr("id") + "' from='" + to + "'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
		return true
	case asks(el, "http://jabber.org/protocol/disco#info"):
		c.say("<iq type='result' id='" + el.Attr("id") + "' from='" + to + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		return true
	case el.Attr("type") == "subscribe":
		f.push(c, to, "subscription='none' ask='subscribe'")
		if f.away[domain] {
			c.say("<presence type='error' from='" + to + "'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>")
		}
	}
	return false
}

// session runs one session of the new home's part.
func (f *foreign) session(t *testing.T, all ...client.Contact) []client.Report {
	t.Helper()
	s, err := client.Dial(t.Context(), f.config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	m, err := s.Mover(t.Context(), client.Words{Lang: "de", Text: "Meine Adresse"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Tell(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if err := m.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.Open() {
		t.Error("who is approved in advance needs no session")
	}
	reports := make([]client.Report, len(all))
	for i, c := range all {
		reports[i] = m.Report(c)
	}
	return reports
}

// Whose server was down is asked again, with the claim, until his server has it; and nobody else is.
func TestAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForeign(t)
		f.away["down.example"] = true
		both, down := contact("romeo@up.example", store.SubBoth), contact("mercutio@down.example", store.SubTo)
		for session := range 4 {
			got := f.session(t, both, down)
			reached := session > 1
			if got[0].Step != client.StepWaiting || got[0].Again || got[0].Why != "" {
				t.Errorf("session %d: %+v", session, got[0])
			}
			if got[1].Step != client.StepWaiting || got[1].Again == reached || (got[1].Why == "") != reached {
				t.Errorf("session %d: %+v", session, got[1])
			}
			both.Asked, down.Asked, down.Again = true, true, got[1].Again
			f.away["down.example"] = session < 1
		}
		all := f.all()
		if n := strings.Count(all, "type='subscribe' to='romeo@up.example'"); n != 1 {
			t.Errorf("romeo was asked %d times", n)
		}
		if n := strings.Count(all, "type='subscribe' to='mercutio@down.example'"); n != 3 {
			t.Errorf("mercutio was asked %d times", n)
		}
		if n := strings.Count(all, "<moved "); n != 4 {
			t.Errorf("%d claims", n)
		}
		// Available while requests wait, the server would repeat them without the claim.
		if n := strings.Count(all, "<priority>"); n != 1 {
			t.Errorf("available %d times", n)
		}
	})
}

// A server that says nothing proves nothing.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForeign(t)
		inner := f.hear
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			return asks(el, "http://jabber.org/protocol/disco#info") || inner(c, el)
		}
		if got := f.session(t, contact("romeo@up.example", store.SubTo)); !got[0].Again || got[0].Why == "" {
			t.Errorf("%+v", got)
		}
	})
}

// Everybody reads who asks, and from where; only who saw the old address is approved; and nothing waits for one contact after the other.
func TestManyContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForeign(t)
		var all []client.Contact
		for i := range 200 {
			all = append(all, contact(fmt.Sprintf("c%d@s%d.example", i, i%50), store.SubBoth))
		}
		all = append(all,
			contact("plain@up.example", store.SubNone, func(c *client.Contact) { c.Ask = true }),
			contact("approved@up.example", store.SubNone, func(c *client.Contact) { c.Approved = true }),
			contact("seen@up.example", store.SubTo, func(c *client.Contact) { c.Approved = true }),
			contact("sees@up.example", store.SubFrom))
		began := time.Now()
		got := f.session(t, all...)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if s := got[len(got)-1].Step; s != client.StepApproved {
			t.Error(s)
		}
		said := f.all()
		if n := strings.Count(said, "type='subscribe'"); n != 202 || strings.Count(said, "<status xml:lang='de'>Meine Adresse</status>") != n || strings.Count(said, "<moved ") != 201 {
			t.Errorf("%d requests", n)
		}
		if strings.Count(said, "type='subscribed'") != 201 || strings.Contains(said, "type='subscribed' to='approved") || strings.Contains(said, "type='subscribed' to='seen") {
			t.Error("approved are others than who saw the old address")
		}
	})
}

func TestBackoff(t *testing.T) {
	sessions, since := 0, time.Duration(0)
	for ; since < 48*time.Hour; since += client.Backoff(since) {
		sessions++
	}
	if sessions > 100 || client.Backoff(0) != 15*time.Second {
		t.Error(sessions)
	}
}
