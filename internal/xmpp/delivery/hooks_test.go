package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

func (w *world) archived() (n int) {
	if err := w.store.View(func(tx *store.Tx) error { n = store.LogStats(tx, w.juliet.String()).Count; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// What a member does not want archived is delivered, and gone when it was.
func TestPreferences(t *testing.T) {
	never := func(_ *store.Tx, _, with xmpp.JID) bool { return with.Local != "stranger" }
	inWorld(t, delivery.Options{Archives: never}, func(w *world) {
		stranger := "<message from='stranger@verona.example/x' type='chat' to='juliet@montague.example'><body>hey</body></message>"
		w.r.Send(xmpp.Make([]byte(stranger)))
		w.send("<body>one</body>")
		w.is("owed", w.owed(), 2)
		w.is("archived", w.archived(), 1)
		c := w.available(w.bind("phone", true))
		list := c.take()
		w.is("got", texts(list), "hey one")
		w.is("the stranger's has an id", list[0].HasChild("urn:xmpp:sid:0", "stanza-id"), false)
		w.is("the other one has", list[1].HasChild("urn:xmpp:sid:0", "stanza-id"), true)
		w.acknowledge(c, list...)
		if se := w.r.FromSession(c.Session, xmpp.Make([]byte("<message type='chat' to='stranger@verona.example'><body>go</body></message>")).Element); se != nil {
			t.Fatal(se)
		}
		synctest.Wait()
		w.is("archived in the end", w.archived(), 1)
		if err := w.store.View(func(tx *store.Tx) error {
			for o := range store.LogOf(tx, store.Range{Account: w.juliet.String()}) {
				if o.Role&store.Archived == 0 {
					t.Errorf("%s is kept", o.Stanza)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// Push learns of what is stored for an account, when it is, in the form that its devices get, and who got it.
func TestOnMessage(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		var heard []string
		w.d.OnMessage(func(account xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session) {
			s := texts([]*xmpp.Stanza{st}) + ":"
			for _, x := range to {
				s += " " + x.JID.Resource
			}
			if account != w.juliet || st.Seq == 0 || !st.HasChild("urn:xmpp:sid:0", "stanza-id") {
				t.Errorf("%s heard %s", account, st.Raw)
			}
			heard = append(heard, s)
		})
		w.send("<body>one</body>")
		phone := w.available(w.bind("phone", true))
		w.acknowledge(phone, phone.take()...)
		tablet := w.bind("tablet", true)
		tablet.Mark("urn:xmpp:carbons:2", true)
		w.r.SetDetached(phone.Session, true)
		w.send("<body>two</body>")
		w.send("<composing xmlns='http://jabber.org/protocol/chatstates'/>")
		w.send("<body>no</body><no-store xmlns='urn:xmpp:hints'/>")
		if se := w.r.FromSession(tablet.Session, xmpp.Make([]byte("<message type='chat'><body>own</body></message>")).Element); se != nil {
			t.Fatal(se)
		}
		synctest.Wait()
		w.is("heard", strings.Join(heard, "; "), "one:; two: phone tablet")
	})
}

// So it does where what memory knows of the account is read from the store when the message is in it already: for the message, as it is the first
// after a start, or for a device that comes just then.
func TestOnMessageFirst(t *testing.T) {
	for _, there := range []bool{true, false} {
		inWorld(t, delivery.Options{}, func(w *world) {
			var heard []string
			w.d.OnMessage(func(_ xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session) {
				heard = append(heard, fmt.Sprint(texts([]*xmpp.Stanza{st})+" ", len(to), st.Seq != 0, st.HasChild("urn:xmpp:sid:0", "stanza-id")))
			})
			c := w.bind("phone", true)
			if err := w.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
				st := "<message from='montague.example' to='juliet@montague.example' type='chat'><body>one</body></message>"
				if there {
					out.After(func() { w.r.SetPresence(c.Session, xmpp.Make([]byte("<presence/>")), 0) })
				}
				w.d.Queue(tx, out, w.juliet, xmpp.Make([]byte(st)))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want, got := "[one 0 true true]", ""
			if there {
				want, got = "[one 1 true true]", "one"
			}
			w.is("heard", fmt.Sprint(heard), want)
			w.is("got", c.bodies(), got)
		})
	}
}

// A carbon that a resource took which would not have got the message is no proof that one did that would.
func TestCarbonIsNoProof(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		shy := w.bind("shy", true)
		shy.Mark("urn:xmpp:carbons:2", true)
		w.send("<body>one</body>")
		list := shy.take()
		w.is("carbons", len(list), 1)
		w.acknowledge(shy, list...)
		w.end(shy)
		w.is("owed", w.owed(), 1)
		// but one who would have got it has it
		phone := w.available(w.bind("phone", true))
		w.acknowledge(phone, phone.take()...)
		tablet := w.available(w.bind("tablet", true))
		tablet.Mark("urn:xmpp:carbons:2", true)
		w.r.Send(xmpp.Make([]byte("<message from='romeo@verona.example/x' type='chat' to='juliet@montague.example/phone'><body>two</body></message>")))
		synctest.Wait()
		w.acknowledge(tablet, tablet.take()...)
		w.end(phone)
		w.is("what the tablet gets anew", tablet.bodies(), "")
		w.end(tablet)
		w.is("owed in the end", w.owed(), 0)
	})
}
