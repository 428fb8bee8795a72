package moved_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// twoHouses are two boxes with two domains each, and friends: Romeo of the one, Juliet of the other.
func twoHouses(t *testing.T, dirs [2]string, move func(a, b *house)) {
	a, b := &house{t: t}, &house{t: t}
	a.other, b.other = b, a
	a.open(filepath.Join(dirs[0], "pibox.db"), "montague.example", "verona.example")
	b.open(filepath.Join(dirs[1], "pibox.db"), "capulet.example", "mantua.example")
	defer func() { _, _ = a.box.Close(), b.box.Close() }()
	a.does("romeo@montague.example")
	b.does("juliet@capulet.example")
	a.does("romeo@montague.example", approve("juliet@capulet.example"), "<presence type='subscribe' to='juliet@capulet.example'/>")
	b.does("juliet@capulet.example", approve("romeo@montague.example"), "<presence type='subscribe' to='romeo@montague.example'/>")
	a.holds("romeo@montague.example: juliet@capulet.example both")
	b.holds("juliet@capulet.example: romeo@montague.example both")
	move(a, b)
}

func (h *house) moves(old, new string) {
	h.t.Helper()
	if err := h.box.Moved.Move(xmpp.MustJID(old), xmpp.MustJID(new), moved.StartOptions{}); err != nil {
		h.t.Fatal(err)
	}
}

// quiet waits, and wants nothing to be said any more, and nobody to have been asked.
func (h *house) quiet() {
	h.t.Helper()
	h.sent = nil
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	if len(h.sent) > 0 {
		h.t.Errorf("they still talk: %v", h.sent)
	}
	if err := h.st.View(func(tx *store.Tx) error {
		for key := range store.Pending.All(tx) {
			h.t.Errorf("somebody is asked: %q", key)
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// Juliet moves by her box's job; Romeo's box follows with nobody online, and lets her in again.
func TestJobMeetsAnotherBox(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		twoHouses(t, dirs, func(a, b *house) {
			b.moves("juliet@capulet.example", "juliet@mantua.example")
			time.Sleep(time.Hour)
			synctest.Wait()
			a.holds("romeo@montague.example: juliet@capulet.example to; juliet@mantua.example both")
			b.holds("juliet@capulet.example: romeo@montague.example from\njuliet@mantua.example: romeo@montague.example both")
			a.quiet()
			b.quiet()
			if have := jobs(t, b.st); have != "\njob juliet@mantua.example done: romeo@montague.example followed" {
				t.Error(have)
			}
		})
	})
}

// Both move at once, each by a job of his box: their new addresses find each other, and nobody is asked anything.
func TestTwoJobsAtOnce(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		twoHouses(t, dirs, func(a, b *house) {
			a.moves("romeo@montague.example", "romeo@verona.example")
			b.moves("juliet@capulet.example", "juliet@mantua.example")
			time.Sleep(time.Hour)
			synctest.Wait()
			a.quiet()
			b.quiet()
			mutual(t, a.st, "romeo@verona.example", "juliet@mantua.example")
			mutual(t, b.st, "juliet@mantua.example", "romeo@verona.example")
			t.Log(dump(t, a.st) + jobs(t, a.st))
			t.Log(dump(t, b.st) + jobs(t, b.st))
		})
	})
}

// One moves a day after the other: the second finds the first at the new address.
func TestTwoJobsOneAfterTheOther(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		twoHouses(t, dirs, func(a, b *house) {
			a.moves("romeo@montague.example", "romeo@verona.example")
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			b.moves("juliet@capulet.example", "juliet@mantua.example")
			time.Sleep(time.Hour)
			synctest.Wait()
			a.quiet()
			b.quiet()
			mutual(t, a.st, "romeo@verona.example", "juliet@mantua.example")
			mutual(t, b.st, "juliet@mantua.example", "romeo@verona.example")
		})
	})
}

func mutual(t *testing.T, st *store.Store, account, contact string) {
	t.Helper()
	if err := st.View(func(tx *store.Tx) error {
		if it, _ := store.Roster.Get(tx, store.Key(account, contact)); it.Sub != store.SubBoth || it.Ask {
			t.Errorf("%s has %s as %q (ask %v)", account, contact, it.Sub, it.Ask)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
