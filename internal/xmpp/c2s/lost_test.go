package c2s

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// lostWorld is a server that bounds what waits for sessions without a connection to 10,000 bytes, and what its sessions gave back.
type lostWorld struct {
	*Server
	t    *testing.T
	back []string // session and id, in order
}

func newLostWorld(t *testing.T) *lostWorld {
	w := &lostWorld{Server: newLone(nil, slog.New(slog.DiscardHandler), Options{ResumeTotal: 10_000}), t: t}
	w.router.OnUnsent(func(s *xmpp.Session, unsent []*xmpp.Stanza) {
		for _, st := range unsent {
			w.back = append(w.back, s.JID.Resource+" "+st.ID)
		}
	})
	return w
}

// put delivers a message that takes so many bytes.
func (w *lostWorld) put(l *link, id string, size int) {
	w.t.Helper()
	st := xmpp.Make(fmt.Appendf(nil, "<message id='%s'/>", id))
	st = xmpp.Make(fmt.Appendf(nil, "<message id='%s'>%s</message>", id, strings.Repeat(" ", size-cost(st)-len("</message>")+1)))
	if cost(st) != size {
		w.t.Fatalf("it takes %d bytes", cost(st))
	}
	if !l.Deliver(st) {
		w.t.Errorf("%s does not take %s", l.session.JID, id)
	}
	synctest.Wait()
}

func (w *lostWorld) expect(sessions string, back ...string) {
	w.t.Helper()
	var there []string
	w.router.EachSession(func(s *xmpp.Session) { there = append(there, s.JID.Resource) })
	slices.Sort(there)
	if got := strings.Join(there, " "); got != sessions {
		w.t.Errorf("there are %q, not %q", got, sessions)
	}
	if !slices.Equal(w.back, back) {
		w.t.Errorf("%q were given back, not %q", w.back, back)
	}
	sum := 0
	for _, l := range w.streams.all() {
		sum += l.out.weighs()
	}
	if n := w.outbox.lost.Load(); n != int64(sum) || n > 10_000 {
		w.t.Errorf("%d bytes are counted, %d of sessions", n, sum)
	}
}

// TestLostGiveWay: when too much waits for sessions without a connection, the one that has been so for the longest ends, and what it had is given
// back in order; nobody with a connection is touched, nor who has nothing waiting.
func TestLostGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLostWorld(t)
		w.lost(romeo(), "empty")
		live := w.live(romeo(), "live")
		w.put(live, "l", 50_000)
		first := w.lost(romeo(), "first")
		time.Sleep(time.Second) // virtual
		second := w.lost(romeo(), "second")
		w.put(second, "2", 4000)
		w.put(first, "1a", 3000)
		w.put(first, "1b", 3000)
		w.expect("empty first live second")
		w.put(second, "3", 1000)
		w.expect("empty live second", "first 1a", "first 1b")
		w.put(second, "4", 5000)
		w.expect("empty live second", "first 1a", "first 1b")
		w.put(second, "5", 1000)
		w.expect("empty live", "first 1a", "first 1b", "second 2", "second 3", "second 4", "second 5")
		w.put(live, "l2", 50_000)
		w.expect("empty live", w.back...)
	})
}

// TestLosesWithMuch: one that loses its connection with more than may wait for all ends, its unacknowledged stanzas first.
func TestLosesWithMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLostWorld(t)
		l := w.live(romeo(), "orchard")
		l.out.sm.add(xmpp.Make([]byte("<message id='sent'/>")), 600)
		w.put(l, "waits", 9500)
		w.expect("orchard")
		l.out.detach(time.Now())
		l.leave()
		synctest.Wait()
		w.expect("", "orchard sent", "orchard waits")
	})
}

// TestLostOfTheHeaviest: a member for whom much waits loses his own sessions, not those of others that have been without a connection for longer.
func TestLostOfTheHeaviest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLostWorld(t)
		juliet := w.lost(xmpp.MustJID("juliet@capulet.example"), "balcony")
		w.put(juliet, "j", 3000)
		for i := range 5 {
			time.Sleep(time.Second) // virtual
			w.put(w.lost(romeo(), fmt.Sprint(i)), "r", 2000)
		}
		w.expect("2 3 4 balcony", "0 r", "1 r")
	})
}

// TestResumedIsNotLost: what a session has that was resumed, or is being resumed, ends nothing of it.
func TestResumedIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLostWorld(t)
		l := w.lost(romeo(), "orchard")
		w.put(l, "1", 6000)
		c := w.connection()
		if !l.claim(c) {
			t.Fatal("it can not be resumed")
		}
		st := xmpp.Make([]byte("<message id='2'><body>" + strings.Repeat("x", 6000) + "</body></message>"))
		if !l.Deliver(st) {
			t.Error("not taken")
		}
		synctest.Wait()
		if w.router.SessionOf(l.session.JID) == nil {
			t.Fatal("it ended while it was being resumed")
		}
		l.out.attach(&countedConn{}, []byte("<resumed/>"), func(error) {}, func() {})
		synctest.Wait()
		w.expect("orchard")
		if n := w.outbox.lost.Load(); n != 0 {
			t.Errorf("%d bytes are counted", n)
		}
		l.out.detach(time.Now())
		l.leave() // nothing was acknowledged
		synctest.Wait()
		w.expect("", "orchard 1", "orchard 2")
	})
}

// TestGivenWayIsOwed: what waited for a session that gave way is owed to the account, and reaches the next one in order, nothing lost and nothing twice.
func TestGivenWayIsOwed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		s := newLone(st, slog.New(slog.DiscardHandler), Options{ResumeTotal: 10_000})
		delivery.Register(s.router, delivery.Options{})
		s.router.SetExists(romeo(), true)
		available := func(l *link) {
			l.session.SetConfirms()
			s.router.SetPresence(l.session, xmpp.Make([]byte("<presence/>")), 0)
			synctest.Wait()
		}
		owed := func() (n int) {
			if err := st.View(func(tx *store.Tx) error { n = store.OwedCount(tx, romeo().String()); return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		l := s.lost(romeo(), "orchard")
		available(l)
		var want []string
		for i := 0; s.router.SessionOf(l.session.JID) != nil; i++ {
			if i > 100 {
				t.Fatal("it does not give way")
			}
			id := fmt.Sprint(i)
			s.router.Send(xmpp.Make(fmt.Appendf(nil, "<message type='chat' id='%s' from='nurse@verona.example/a' to='romeo@montague.example'><body>%0500d</body></message>", id, i)))
			synctest.Wait()
			want = append(want, id)
		}
		if n := owed(); n != len(want) || n < 5 {
			t.Errorf("%d of %d are owed", n, len(want))
		}
		next := s.live(romeo(), "balcony")
		available(next)
		var got []string
		for _, st := range next.out.unsent() {
			if st.Kind == xmpp.Message {
				got = append(got, st.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the next one is sent %v, not %v", got, want)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
