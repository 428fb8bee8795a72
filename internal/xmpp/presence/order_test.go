package presence_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

// world is a box with the account romeo; what leaves for other servers is noted in order.
type world struct {
	*xmpp.Router
	t        *testing.T
	presence *presence.Presence
	roster   *roster.Roster
	mu       sync.Mutex
	sent     []*xmpp.Stanza
}

var romeo = xmpp.MustJID("romeo@montague.example")

// remote is all other servers.
type remote struct{ w *world }

func (r remote) Send(st *xmpp.Stanza) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.w.sent = append(r.w.sent, st)
}

type deaf struct{}

func (deaf) Deliver(*xmpp.Stanza) bool { return true }
func (deaf) Close(*xmpp.StreamError)   {}

func inWorld(t *testing.T, f func(w *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "s.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		w := &world{Router: xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{romeo.Domain}), t: t}
		w.SetRemote(remote{w})
		w.presence = presence.Register(w.Router, presence.Options{})
		w.roster = roster.Register(w.Router, w.presence, roster.Options{})
		w.SetExists(romeo, true)
		f(w)
	})
}

func (w *world) bind(resource string) *xmpp.Session {
	return w.Bind(romeo, resource, resource, deaf{}, xmpp.ConflictReplace)
}

func (w *world) from(s *xmpp.Session, xml string) {
	el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{})
	if err != nil {
		panic(err)
	}
	if se := w.FromSession(s, el); se != nil {
		panic(se)
	}
}

func (w *world) subscribe(contacts ...string) {
	if err := w.Update(func(tx *store.Tx, out *xmpp.Out) error {
		for _, c := range contacts {
			w.roster.Put(tx, out, romeo, xmpp.MustJID(c), store.RosterItem{Sub: store.SubFrom})
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// want compares what left since the last call: type (or status), from's resource, to.
func (w *world) want(what ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, st := range w.sent {
		typ := st.Type
		if typ == "" {
			typ = "available" + st.Node().ChildText("", "status")
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", typ, st.From.Resource, st.To)))
	}
	if !slices.Equal(got, what) {
		w.t.Errorf("sent\n  %s\nexpected\n  %s", strings.Join(got, "\n  "), strings.Join(what, "\n  "))
	}
	w.sent = nil
}

// hold stops the committer until the returned function is called.
func (w *world) hold() (release func()) {
	gate := make(chan struct{})
	w.Store.Submit(&store.Op{Run: func(*store.Tx) error { <-gate; return nil }})
	synctest.Wait()
	return func() { close(gate); synctest.Wait() }
}

// A connection that is lost while the card is busy leaves no ghost: nothing available goes out behind the unavailable presence.
func TestLostWhileTheCardIsBusy(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("juliet@capulet.example")
		s := w.bind("orchard")
		w.from(s, "<presence/>")
		w.want("available orchard juliet@capulet.example")
		release := w.hold()
		w.from(s, "<presence type='subscribe' to='nurse@capulet.example'/>")
		w.from(s, "<presence to='nurse@capulet.example'/>") // waits behind the request
		w.from(s, "<presence to='paris@capulet.example'/>")
		w.Unbind(s)
		w.want("available orchard paris@capulet.example", "unavailable orchard juliet@capulet.example", "unavailable orchard paris@capulet.example")
		release()
		w.want("subscribe  nurse@capulet.example")
		// what a gone session still had in its socket is for nobody
		w.from(s, "<presence/>")
		w.from(s, "<presence to='tybalt@capulet.example'/>")
		w.want()
	})
}

// A session that ends between the commit that ends a subscription and its effect: the contact is in the roster no more, and hears of it
// all the same.
func TestLostWhileASubscriptionEnds(t *testing.T) {
	for _, how := range []string{"lost", "unavailable"} {
		inWorld(t, func(w *world) {
			w.subscribe("juliet@capulet.example")
			s, other := w.bind("orchard"), w.bind("garden")
			w.from(s, "<presence/>")
			w.from(other, "<presence/>")
			w.sent = nil
			release := w.hold()
			w.Store.Submit(&store.Op{Run: func(tx *store.Tx) error {
				tx.OnCommit(func() {
					w.from(s, "<presence><status>1</status></presence>") // goes to nobody, and is not forgotten either
					if how == "lost" {
						w.Unbind(s)
					} else {
						w.from(s, "<presence type='unavailable'/>")
					}
				})
				return nil
			}})
			w.from(other, "<presence type='unsubscribed' to='juliet@capulet.example'/>")
			release()
			w.want("unavailable orchard juliet@capulet.example", "unavailable garden juliet@capulet.example", "unsubscribed  juliet@capulet.example")
			w.from(other, "<presence type='unavailable'/>")
			w.want()
		})
	}
}

// A resource that is taken over by a new connection becomes unavailable before it is available again.
func TestResourceTakenOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("juliet@capulet.example")
		older := w.bind("orchard")
		w.from(older, "<presence><status>1</status></presence>")
		newer := w.bind("orchard")
		w.from(older, "<presence><status>2</status></presence>") // too late
		w.from(newer, "<presence><status>3</status></presence>")
		w.Unbind(older)
		w.want("available1 orchard juliet@capulet.example", "unavailable orchard juliet@capulet.example", "available3 orchard juliet@capulet.example")
		if now, _ := newer.Presence(); now == nil {
			t.Error("the newer session is not available")
		}
	})
}

// While sessions broadcast, come and go, and contacts are approved and cancelled, what a contact hears last of each resource is the truth.
func TestWhatIsToldLastIsTrue(t *testing.T) {
	inWorld(t, func(w *world) {
		const contacts, rounds = 4, 30
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				for n := range rounds {
					s := w.bind(fmt.Sprint("r", i))
					for m := range 3 {
						w.from(s, fmt.Sprintf("<presence><status>%d.%d</status></presence>", n, m))
					}
					if n%2 == 0 || n < rounds-5 {
						w.Unbind(s)
					}
				}
			})
		}
		keeper := w.bind("keeper")
		for i := range contacts {
			wg.Go(func() {
				for n := range rounds {
					typ := []string{"subscribed", "unsubscribed"}[n%2]
					if n == rounds-1 && i == 0 {
						typ = "subscribed"
					}
					who := fmt.Sprintf("c%d@capulet.example", i)
					w.request(who)
					w.from(keeper, fmt.Sprintf("<presence type='%s' to='%s'/>", typ, who))
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		w.checkTruth(contacts)
	})
}

func (w *world) request(from string) {
	w.peer(fmt.Sprintf("<presence type='subscribe' from='%s' to='%s'/>", from, romeo))
}

func (w *world) peer(xml string) {
	el, err := frame.Parse([]byte(xml), xmpp.NSServer, frame.Limits{})
	if err != nil {
		panic(err)
	}
	st, err := xmpp.NewStanza(el)
	if err != nil {
		panic(err)
	}
	w.FromPeer(&xmpp.Peer{Domain: st.From.Domain, Proof: xmpp.ProofCertificate}, st)
}

func (w *world) checkTruth(contacts int) {
	last := map[[2]xmpp.JID]string{}
	for _, st := range w.sent {
		if st.Type == "" || st.Type == "unavailable" {
			last[[2]xmpp.JID{st.From, st.To}] = st.Type + st.Node().ChildText("", "status")
		}
	}
	for i := range contacts {
		who := xmpp.MustJID(fmt.Sprintf("c%d@capulet.example", i))
		var sees bool
		if err := w.Store.View(func(tx *store.Tx) error { sees = xmpp.MaySee(tx, romeo, who); return nil }); err != nil {
			w.t.Fatal(err)
		}
		for r := range 3 {
			full := romeo.With(fmt.Sprint("r", r))
			want := "unavailable"
			if s := w.SessionOf(full); sees && s != nil {
				if now, _ := s.Presence(); now != nil {
					want = now.Node().ChildText("", "status")
				}
			}
			got := last[[2]xmpp.JID{full, who}]
			if got != want && !(got == "" && want == "unavailable") {
				w.t.Errorf("%s heard last of %s %q, the truth is %q", who, full, got, want)
			}
		}
	}
}

// The presence that an approval sends and a broadcast at the same moment: the newer one is heard last.
func TestApprovalMeetsBroadcast(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "s.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	w := &world{Router: xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{romeo.Domain}), t: t}
	w.SetRemote(remote{w})
	w.presence = presence.Register(w.Router, presence.Options{})
	w.roster = roster.Register(w.Router, w.presence, roster.Options{})
	w.SetExists(romeo, true)
	var begun atomic.Bool
	broadcast := make(chan struct{})
	overtook := func() bool {
		select {
		case <-broadcast:
			return true
		default:
			return false
		}
	}
	s, other := w.bind("orchard"), w.bind("garden")
	w.FilterOut(func(rq *xmpp.Request) (bool, error) {
		if rq.Session == s && begun.CompareAndSwap(false, true) { // the old presence is on its way; the new one tries to overtake it
			go func() { w.from(s, "<presence><status>new</status></presence>"); close(broadcast) }()
			for i := 0; i < 100000 && !overtook(); i++ {
				runtime.Gosched()
			}
		}
		return false, nil
	})
	w.from(s, "<presence><status>old</status></presence>")
	w.request("juliet@capulet.example")
	w.from(other, "<presence type='subscribed' to='juliet@capulet.example'/>")
	if err := w.Store.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-broadcast
	last := w.sent[len(w.sent)-1]
	if got := last.Node().ChildText("", "status"); got != "new" {
		t.Errorf("heard last: %s", last.Raw)
	}
}
