package blocking_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/blocking"
	"pibox/internal/xmpp/delivery"
	"pibox/internal/xmpp/ping"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		p := presence.Register(r, presence.Options{})
		roster.Register(r, p, roster.Options{})
		delivery.Register(r, delivery.Options{})
		ping.Register(r)
		if err := blocking.Register(r, p, blocking.Options{MaxEntries: 4}).Load(); err != nil {
			t.Fatal(err)
		}
		return transcript.Box{Router: r}
	})
}

// nobody takes the place of the presence feature.
type nobody struct{}

func (nobody) Block(*store.Tx, *xmpp.Out, xmpp.JID, xmpp.JID) error   { return nil }
func (nobody) Unblock(*store.Tx, *xmpp.Out, xmpp.JID, xmpp.JID) error { return nil }

const romeo = "romeo@montague.example"

func newBlocking(t testing.TB) (*xmpp.Router, *blocking.Blocking) {
	st, err := store.Open(filepath.Join(t.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
	return r, blocking.Register(r, nobody{}, blocking.Options{})
}

// XEP-0191 §6: which entry stands for whom. Every other pair must not match.
func TestBlocked(t *testing.T) {
	who := []string{
		"tybalt@capulet.example/tomb", "tybalt@capulet.example/x", "tybalt@capulet.example", "nurse@capulet.example/tomb",
		"capulet.example", "capulet.example/tomb", "sub.capulet.example", "tybalt@verona.example/tomb", "montague.example", romeo + "/orchard",
	}
	for entry, covers := range map[string][]int{
		"tybalt@capulet.example/tomb": {0},
		"tybalt@capulet.example":      {0, 1, 2},
		"capulet.example/tomb":        {0, 3, 5},
		"capulet.example":             {0, 1, 2, 3, 4, 5},
		"montague.example":            {}, // an own account or server never, whatever the list holds
		romeo:                         {},
	} {
		r, b := newBlocking(t)
		want := map[string]bool{}
		for _, i := range covers {
			want[who[i]] = true
		}
		if err := r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			store.Blocks.Put(tx, store.Key(romeo, entry), store.Block{})
			for _, w := range who {
				if got := b.Blocked(tx, xmpp.MustJID(romeo), xmpp.MustJID(w)); got != want[w] {
					t.Errorf("entry %s, %s: blocked %v", entry, w, got)
				}
				if b.Blocked(tx, xmpp.MustJID("mercutio@montague.example"), xmpp.MustJID(w)) {
					t.Errorf("entry %s blocks %s for another account", entry, w)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	r, b := newBlocking(t)
	if err := r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		store.Blocks.Put(tx, store.Key(romeo, "@"), store.Block{})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if b.Load() == nil {
		t.Error("an entry that is no address was taken")
	}
}

// Every message passes the filter: it must cost far less than its relay.
func BenchmarkFilter(b *testing.B) {
	r, bl := newBlocking(b)
	if err := r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for _, e := range []string{"paris@capulet.example", "spam.example"} {
			store.Blocks.Put(tx, store.Key(romeo, e), store.Block{})
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	if err := bl.Load(); err != nil {
		b.Fatal(err)
	}
	st := xmpp.Make([]byte("<message from='juliet@capulet.example/balcony' to='" + romeo + "/orchard' type='error'/>"))
	b.ReportAllocs()
	for b.Loop() {
		r.Send(st)
	}
}

// With an account its list goes, also from memory: another person may get its name.
func TestClear(t *testing.T) {
	r, b := newBlocking(t)
	if err := r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		store.Blocks.Put(tx, store.Key(romeo, "paris@capulet.example"), store.Block{})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.Load(); err != nil {
		t.Fatal(err)
	}
	got := 0
	r.SetExists(xmpp.MustJID(romeo), true)
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "*"}, func(*xmpp.Request) error {
		got++
		return nil
	})
	st := xmpp.Make([]byte("<message from='paris@capulet.example/x' to='" + romeo + "'/>"))
	r.Send(st)
	if got != 0 {
		t.Fatal("not blocked")
	}
	if err := r.Update(func(tx *store.Tx, out *xmpp.Out) error { return b.Clear(tx, out, xmpp.MustJID(romeo)) }); err != nil {
		t.Fatal(err)
	}
	r.Send(st)
	if got != 1 {
		t.Error("still blocked")
	}
}
