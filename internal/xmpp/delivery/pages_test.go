package delivery_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// big is a third of a page.
var big = strings.Repeat("x", 45<<10)

func (w *world) sendBig(names string) {
	for _, name := range strings.Fields(names) {
		w.send("<body>%-3s%s</body>", name, big)
	}
}

// What waits is handed over page by page; what comes meanwhile waits its turn, in order.
func TestPages(t *testing.T) {
	for _, acknowledging := range []bool{true, false} {
		inWorld(t, delivery.Options{}, func(w *world) {
			w.sendBig("a b c d e f g h")
			c := w.available(w.bind("phone", acknowledging))
			answer := func() {
				list := c.take()
				if acknowledging {
					w.acknowledge(c, list...)
					return
				}
				w.acknowledge(c, list...) // written: that is no answer
				for _, st := range list {
					if st.Kind == xmpp.IQ {
						if se := w.r.FromSession(c.Session, xmpp.Make([]byte("<iq type='result' id='"+st.ID+"' to='montague.example'/>")).Element); se != nil {
							t.Fatal(se)
						}
					}
				}
				synctest.Wait()
			}
			got := func(want string) {
				t.Helper()
				if !acknowledging && want != "" {
					want += " ping"
				}
				w.is("page", texts(c.got()), want)
			}
			got("a b c")
			w.send("<body>i</body>")
			w.send("<composing xmlns='http://jabber.org/protocol/chatstates'/>")
			w.is("typing need not wait", c.got()[len(c.got())-1].Children[0].Name, "composing")
			c.list = c.list[:len(c.list)-1]
			got("a b c")
			answer()
			got("d e f")
			w.is("owed", w.owed(), 6)
			w.r.SetDetached(c.Session, true)
			answer()
			got("")
			w.send("<body>j</body>")
			w.r.SetDetached(c.Session, false)
			synctest.Wait()
			got("g h i j")
			w.send("<body>k</body>")
			w.is("live again", strings.HasSuffix(c.bodies(), "k"), true)
		})
	}
}

// The rest of what waits goes to another device when the first one is gone, or without a connection, or does not answer.
func TestPagesElsewhere(t *testing.T) {
	for name, leave := range map[string]func(w *world, c *client){
		"gone":        func(w *world, c *client) { w.end(c) },
		"detached":    func(w *world, c *client) { w.r.SetDetached(c.Session, true) },
		"unavailable": func(w *world, c *client) { w.r.SetPresence(c.Session, nil, 0) },
		"deaf":        func(_ *world, _ *client) { time.Sleep(61 * time.Second) }, // the bubble's clock
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, delivery.Options{}, func(w *world) {
				w.sendBig("a b c d e")
				first := w.available(w.bind("first", name != "deaf"))
				second := w.available(w.bind("second", true))
				w.is("the second one's", second.bodies(), "")
				w.send("<body>f</body>")
				w.is("the second one's", second.bodies(), "f")
				leave(w, first)
				synctest.Wait()
				want := "d e"
				if name == "gone" || name == "deaf" {
					want = "a b c"
				}
				list := second.take()
				w.is("the second one's", texts(list), want)
				w.acknowledge(second, list...)
				if list = second.take(); name == "gone" || name == "deaf" {
					w.is("the second one's", texts(list), "d e")
				}
				w.acknowledge(second, list...)
				switch name {
				case "detached", "unavailable":
					w.is("owed", w.owed() > 0, true)
					w.acknowledge(first, first.take()...)
				case "deaf": // what came live it gets
					w.is("the deaf one's", strings.HasSuffix(first.bodies(), "f"), true)
				}
				if name == "detached" {
					w.r.SetDetached(first.Session, false)
					synctest.Wait()
					w.is("what the first one missed", first.bodies(), "f")
				}
			})
		})
	}
}

// A client that never acknowledges its page does not fill the memory: what comes live it is handed at once, and its connection's queue is bounded.
func TestPagesOverflow(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		w.sendBig("a b c d e")
		c := w.available(w.bind("phone", true))
		c.take()
		for range 2001 {
			w.r.Send(xmpp.Make([]byte("<message from='romeo@verona.example/orchard' type='chat' to='juliet@montague.example'><body>live</body></message>")))
		}
		synctest.Wait()
		w.is("live", len(c.got()), 2001)
		w.send("<body>live</body>")
		w.is("live", len(c.got()), 2002)
		w.end(c)
		w.is("owed", w.owed(), 2007)
	})
}

// pass is the bubble's clock.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// What waits is not handed to a client past what its connection can queue, which would cost it the connection.
func TestPagesRoom(t *testing.T) {
	for _, acknowledging := range []bool{true, false} {
		inWorld(t, delivery.Options{}, func(w *world) {
			w.sendBig("a b c d e f")
			c := w.bind("phone", acknowledging)
			c.queues(200 << 10)
			w.r.Send(xmpp.Make([]byte("<message from='a@b.example/c' to='juliet@montague.example/phone' type='headline'><body>h" + strings.Repeat("x", 70<<10) + "</body></message>")))
			synctest.Wait()
			answer := func() {
				list := c.take()
				w.acknowledge(c, list...)
				if len(list) == 0 {
					t.Fatal("nothing to answer for")
				}
				if st := list[len(list)-1]; st.Kind == xmpp.IQ {
					if se := w.r.FromSession(c.Session, xmpp.Make([]byte("<iq type='result' id='"+st.ID+"' to='montague.example'/>")).Element); se != nil {
						t.Fatal(se)
					}
					synctest.Wait()
				}
			}
			got := func(want string) {
				t.Helper()
				if !acknowledging && want != "" {
					want += " ping"
				}
				w.is("page", texts(c.got()), strings.TrimSpace(want))
				w.is("past its room", c.Room() < 0, false)
			}
			w.available(c)
			got("hxx a")
			answer()
			got("b c")
			c.queues(40 << 10) // full of other things
			answer()
			w.pass(10 * time.Second)
			got("")
			c.queues(100 << 10) // it read them
			w.pass(time.Second)
			got("d")
			// a queue that will never have room for one stanza: it may take that alone
			c.queues(40 << 10)
			answer()
			got("")
			w.pass(time.Minute)
			w.is("alone", strings.HasPrefix(texts(c.got()), "e"), true)
		})
	}
}
