package archive_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
	"pibox/internal/xmpp/frame"
)

// box is a box with one member who is connected, and others who write.
type box struct {
	t       testing.TB
	r       *xmpp.Router
	st      *store.Store
	archive *archive.Archive
	out     *outlet
	session *xmpp.Session
	n       int
}

var (
	romeo  = xmpp.MustJID("romeo@montague.example")
	tybalt = xmpp.MustJID("tybalt@montague.example")
	juliet = xmpp.MustJID("juliet@capulet.example")
)

// outlet keeps what a session got. full says after how many stanzas it takes no more; 0: never.
type outlet struct {
	mu   sync.Mutex
	got  []*xmpp.Stanza
	full int
	room int
	come chan struct{}
}

func (o *outlet) Deliver(st *xmpp.Stanza) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.full > 0 && len(o.got) == o.full {
		return false
	}
	o.got = append(o.got, st)
	if st.Kind == xmpp.IQ && o.come != nil {
		o.come <- struct{}{}
	}
	return true
}

func (o *outlet) Room() int { return o.room }

func (o *outlet) Close(*xmpp.StreamError) {}

func (o *outlet) take() []*xmpp.Stanza {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

func newBox(t testing.TB, opt archive.Options) *box {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, st: st, r: xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{romeo.Domain}), out: &outlet{room: 1 << 20, come: make(chan struct{}, 1)}}
	b.archive = archive.Register(b.r, opt)
	t.Cleanup(func() {
		b.archive.Stop()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	b.r.SetExists(romeo, true)
	b.r.SetExists(tybalt, true)
	b.session = b.r.Bind(romeo, "orchard", "test", b.out, xmpp.ConflictReplace)
	return b
}

func (b *box) update(f func(tx *store.Tx)) {
	b.t.Helper()
	if err := b.st.Update(func(tx *store.Tx) error {
		f(tx)
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

// ask sends an IQ of the member's and gives what came up to its answer.
func (b *box) ask(typ, payload string) (results []*xmpp.Stanza, reply *xmpp.Stanza) {
	b.t.Helper()
	b.n++
	id := fmt.Sprint("q", b.n)
	b.send("<iq type='" + typ + "' id='" + id + "'>" + payload + "</iq>")
	<-b.out.come
	got := b.out.take()
	reply = got[len(got)-1]
	if reply.ID != id {
		b.t.Fatalf("the last stanza is no answer: %s", reply.Raw)
	}
	return got[:len(got)-1], reply
}

// send sends a stanza of the member's.
func (b *box) send(xml string) {
	b.t.Helper()
	el, err := frame.Parse([]byte(xml), xmpp.NSClient, frame.Limits{})
	if err != nil {
		b.t.Fatal(err, xml)
	}
	if se := b.r.FromSession(b.session, el); se != nil {
		b.t.Fatal(se)
	}
}
