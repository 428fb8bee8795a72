package delivery_test

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// stuck is a client that takes everything and whose connection writes nothing.
type stuck struct{ taken []*xmpp.Stanza }

func (s *stuck) Deliver(st *xmpp.Stanza) bool { s.taken = append(s.taken, st); return true }
func (s *stuck) Close(*xmpp.StreamError)      {}

// What a lost connection took without writing it is not lost: it is kept, once, unless another resource has it.
func TestUnsent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
		delivery.Register(r, delivery.Options{})
		juliet := xmpp.MustJID("juliet@montague.example")
		r.SetExists(juliet, true)
		lost := &stuck{}
		lose := func(xml ...string) (kept int) {
			lost.taken = nil
			s := r.Bind(juliet, "phone", "c1", lost, xmpp.ConflictReplace)
			r.SetPresence(s, xmpp.Make([]byte("<presence from='juliet@montague.example/phone'/>")), 0)
			synctest.Wait()
			for _, x := range xml {
				r.Send(xmpp.Make([]byte(x)))
			}
			synctest.Wait()
			r.Unbind(s)
			r.Unsent(s, slices.Clone(lost.taken))
			synctest.Wait()
			if err := st.View(func(tx *store.Tx) error { kept = store.Offline.Count(tx, juliet.String()); return nil }); err != nil {
				t.Fatal(err)
			}
			return kept
		}
		if n := lose("<message from='a@b.example/c' to='juliet@montague.example' type='headline'><body>x</body></message>"); n != 0 {
			t.Errorf("%d kept of a headline", n)
		}
		n := lose("<message from='a@b.example/c' to='juliet@montague.example' type='chat'><body>x</body></message>",
			"<message from='a@b.example/c' to='juliet@montague.example/phone' type='chat'><body>y</body></message>")
		if n != 2 {
			t.Errorf("%d kept of two", n)
		}
		if n := lose(); n != 2 { // handed over from the store, and lost again
			t.Errorf("%d kept of the same two", n)
		}
		tablet := r.Bind(juliet, "tablet", "c2", &stuck{}, xmpp.ConflictReplace)
		r.SetPresence(tablet, xmpp.Make([]byte("<presence from='juliet@montague.example/tablet'/>")), 0)
		synctest.Wait()
		if n := lose("<message from='a@b.example/c' to='juliet@montague.example' type='chat'><body>z</body></message>"); n > 3 {
			t.Errorf("%d kept although the tablet has it", n)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
