package pep_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/pep"
)

// weigher stands for other servers; it weighs what is in memory when the first event leaves.
type weigher struct {
	before, first uint64
	n             int
	done          chan struct{}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (w *weigher) Send(*xmpp.Stanza) {
	if w.n++; w.n == 1 {
		w.first = heap()
	}
	if w.n == 500 {
		close(w.done)
	}
}

// One publication for many subscribers does not exist in as many copies at the same time.
func TestFanOutMemory(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := &weigher{done: make(chan struct{})}
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"capulet.example"})
	r.SetRemote(w)
	pep.Register(r, nobodysCaps{}, nobodysBlocks{}, pep.Options{})
	juliet := xmpp.MustJID("juliet@capulet.example")
	r.SetExists(juliet, true)
	s := r.Bind(juliet, "balcony", "c1", deaf{}, xmpp.ConflictReplace)
	ask := func(payload string) {
		t.Helper()
		el, err := frame.Parse([]byte("<iq type='set' id='1'>"+payload+"</iq>"), xmpp.NSClient, frame.Limits{Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		r.FromSession(s, el)
		if err := st.Update(func(*store.Tx) error { return nil }); err != nil { // behind it
			t.Fatal(err)
		}
	}
	ask("<pubsub xmlns='" + pep.NS + "'><create node='n'/><configure><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + pep.NS +
		"#node_config</value></field><field var='pubsub#access_model'><value>open</value></field></x></configure></pubsub>")
	var subs strings.Builder
	for i := range 500 {
		fmt.Fprintf(&subs, "<subscription jid='s%d@verona.example' subscription='subscribed'/>", i)
	}
	ask("<pubsub xmlns='" + pep.NSOwner + "'><subscriptions node='n'>" + subs.String() + "</subscriptions></pubsub>")
	<-w.done
	w.n, w.done, w.before = 0, make(chan struct{}), heap()
	ask("<pubsub xmlns='" + pep.NS + "'><publish node='n'><item id='i'><x xmlns='urn:x'>" + strings.Repeat("x", 200_000) + "</x></item></publish></pubsub>")
	<-w.done
	if grown := int64(w.first) - int64(w.before); grown > 16<<20 {
		t.Errorf("%d MiB more in memory", grown>>20)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

type deaf struct{}

func (deaf) Deliver(*xmpp.Stanza) bool { return true }
func (deaf) Close(*xmpp.StreamError)   {}

type nobodysCaps struct{}

func (nobodysCaps) WantsNotify(xmpp.JID, string) bool   { return false }
func (nobodysCaps) OnCaps(func(account, full xmpp.JID)) {}

type nobodysBlocks struct{}

func (nobodysBlocks) Blocked(*store.Tx, xmpp.JID, xmpp.JID) bool { return false }
