package delivery_test

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// client is a connection that tells of nothing by itself.
type client struct {
	*xmpp.Session
	mu    sync.Mutex
	list  []*xmpp.Stanza
	limit int // of bytes that it was handed and has not taken; 0: none
}

// Room is xmpp.Roomy.
func (c *client) Room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit == 0 {
		return math.MaxInt
	}
	room := c.limit
	for _, st := range c.list {
		room -= len(st.Raw)
	}
	return room
}

func (c *client) Deliver(st *xmpp.Stanza) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, st)
	return true
}

func (c *client) queues(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = bytes
}

func (c *client) Close(*xmpp.StreamError) {}

// got is what it got since take.
func (c *client) got() []*xmpp.Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func (c *client) take() []*xmpp.Stanza {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.list
	c.list = nil
	return l
}

// bodies are those of what it got, and "ping"; it is taken.
func (c *client) bodies() string { return texts(c.take()) }

func texts(list []*xmpp.Stanza) string {
	var all []string
	for _, st := range list {
		if st.Kind == xmpp.IQ {
			all = append(all, "ping")
			continue
		}
		body := st.Node().ChildText(xmpp.NSClient, "body")
		all = append(all, strings.TrimSpace(body[:min(len(body), 3)]))
	}
	return strings.Join(all, " ")
}

// world is a box with Juliet's account and as many clients as one likes.
type world struct {
	t      *testing.T
	store  *store.Store
	r      *xmpp.Router
	d      *delivery.Delivery
	juliet xmpp.JID
	syncs  atomic.Int32
}

func inWorld(t *testing.T, opt delivery.Options, f func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, juliet: xmpp.MustJID("juliet@montague.example")}
		var err error
		if w.store, err = store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1, OnStep: func(step store.Step) {
			if step == store.StepSynced {
				w.syncs.Add(1)
			}
		}}); err != nil {
			t.Fatal(err)
		}
		w.start(opt)
		f(w)
		if err := w.store.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// start is a new process, as far as memory goes.
func (w *world) start(opt delivery.Options) {
	w.r = xmpp.NewRouter(w.store, slog.New(slog.DiscardHandler), []string{"montague.example"})
	w.d = delivery.Register(w.r, opt)
	w.r.SetExists(w.juliet, true)
}

func (w *world) bind(resource string, acknowledges bool) *client {
	c := &client{}
	c.Session = w.r.Bind(w.juliet, resource, resource, c, xmpp.ConflictReplace)
	if acknowledges {
		c.SetConfirms()
	}
	return c
}

func (w *world) available(c *client) *client {
	w.r.SetPresence(c.Session, xmpp.Make([]byte("<presence/>")), 0)
	synctest.Wait()
	return c
}

func (w *world) acknowledge(c *client, list ...*xmpp.Stanza) {
	for _, st := range list {
		w.r.Taken(c.Session, st)
	}
	synctest.Wait()
}

func (w *world) end(c *client) {
	w.r.Unbind(c.Session)
	w.r.Unsent(c.Session, c.got())
	synctest.Wait()
}

func (w *world) send(format string, args ...any) {
	w.r.Send(xmpp.Make(fmt.Appendf(nil, "<message from='romeo@verona.example/orchard' type='chat' to='juliet@montague.example'>"+format+"</message>", args...)))
	synctest.Wait()
}

func (w *world) owed() (n int) {
	if err := w.store.View(func(tx *store.Tx) error { n = store.OwedCount(tx, w.juliet.String()); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) is(what string, have, want any) {
	w.t.Helper()
	if have != want {
		w.t.Errorf("%s: %v instead of %v", what, have, want)
	}
}

// What a lost connection took without writing it is not lost: it is kept, once, unless another resource has it.
func TestUnsent(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		lost := w.available(w.bind("lost", false))
		w.r.Send(xmpp.Make([]byte("<message from='a@b.example/c' to='juliet@montague.example' type='headline'><body>x</body></message>")))
		w.end(lost)
		w.is("kept of a headline", w.owed(), 0)
		lost = w.available(w.bind("lost", false))
		w.send("<body>one</body>")
		w.r.Send(xmpp.Make([]byte("<message from='a@b.example/c' to='juliet@montague.example/lost' type='chat'><body>two</body></message>")))
		w.end(lost)
		w.is("kept of two", w.owed(), 2)
		lost = w.available(w.bind("lost", false))
		w.is("what waited", lost.bodies(), "one two ping")
		w.end(lost)
		w.is("kept of the same two", w.owed(), 2)
		tablet := w.available(w.bind("tablet", true))
		w.acknowledge(tablet, tablet.got()...)
		w.is("kept", w.owed(), 0)
		lost = w.available(w.bind("lost", false))
		w.send("<body>three</body>")
		w.acknowledge(tablet, tablet.got()...)
		w.end(lost)
		w.is("kept although the tablet has it", w.owed(), 0)
	})
}

// A box that stops as it should has written what was delivered, also behind something that nobody took.
func TestFlush(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		stuck := w.available(w.bind("stuck", true))
		quick := w.bind("quick", true)
		w.send("<body>one</body>")
		w.available(quick)
		for i := range 100 {
			w.send("<body>%d</body>", i)
		}
		w.acknowledge(quick, quick.got()...)
		w.send("<body>last</body>")
		if n := w.owed(); n < 2 || n > 70 {
			t.Errorf("%d would come again after a power cut", n)
		}
		w.acknowledge(quick, quick.got()...)
		if err := w.d.Flush(); err != nil {
			t.Fatal(err)
		}
		w.is("owed", w.owed(), 1)
		w.acknowledge(stuck, stuck.got()...)
		if err := w.d.Flush(); err != nil {
			t.Fatal(err)
		}
		w.is("owed in the end", w.owed(), 0)
	})
}

// A client whose stanzas waited in the store over a restart is not handed them anew.
func TestRestart(t *testing.T) {
	inWorld(t, delivery.Options{}, func(w *world) {
		w.sendBig("a b c d")
		c := w.available(w.bind("phone", true))
		w.is("got", texts(c.take()), "a b c")
		w.r.SetDetached(c.Session, true)
		w.send("<body>one</body>")
		w.is("waits its turn", texts(c.take()), "")
		saved := w.r.SaveSession(c.Session)
		w.start(delivery.Options{})
		c = &client{}
		var err error
		if c.Session, err = w.r.BindSaved(w.juliet, saved, "", c); err != nil {
			t.Fatal(err)
		}
		w.r.RestoreSession(c.Session, saved)
		synctest.Wait()
		w.send("<body>two</body>")
		w.is("live", c.bodies(), "two")
		w.r.SetDetached(c.Session, false)
		synctest.Wait()
		list := c.take()
		w.is("got", texts(list), "d one")
		w.is("owed", w.owed(), 6)
		w.acknowledge(c, list...)
		w.end(c)
		c = w.available(w.bind("phone", true))
		list = c.take()
		w.acknowledge(c, list...)
		w.is("got in the end", texts(append(list, c.take()...)), "a b c two")
	})
}
