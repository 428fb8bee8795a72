package moved_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// However many contacts one server has: all are in the new contact list at once, with names and groups. Only the requests take their time.
func TestManyContactsOfOneServer(t *testing.T) {
	const n = 60
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		who := func(i int) string { return fmt.Sprintf("c%02d@montague.example", i) }
		if err := st.Update(func(tx *store.Tx) error {
			store.Accounts.Put(tx, "juliet@old.example", store.Account{Created: time.Now()})
			for i := range n {
				store.Roster.Put(tx, store.Key("juliet@old.example", who(i)), store.RosterItem{Sub: store.SubBoth, Name: "Contact", Groups: []string{"Friends"}})
			}
			// behind the many, and to be told at once
			store.Roster.Put(tx, store.Key("juliet@old.example", "z@verona.example"), store.RosterItem{Sub: store.SubTo})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		l := &lossy{got: map[string]int{}}
		b := newBox(t, st, config.Default(), []string{"old.example", "new.example"}, l)
		l.r = b.Router
		new := xmpp.MustJID("juliet@new.example")
		if err := b.Moved.Move(xmpp.MustJID("juliet@old.example"), new, moved.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		asked := func() (n int) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for what := range l.got {
				if strings.HasPrefix(what, "subscribe ") {
					n++
				}
			}
			return n
		}
		if got := asked(); got != 17 {
			t.Errorf("%d were asked at once", got)
		}
		items := func(tx *store.Tx) (found int) {
			for i := range n {
				item, ok := store.Roster.Get(tx, store.Key("juliet@new.example", who(i)))
				if ok && !item.Removed && item.Sub == store.SubNone && item.Approved && item.Name == "Contact" && len(item.Groups) == 1 {
					found++
				}
			}
			return found
		}
		if err := st.View(func(tx *store.Tx) error {
			if got := items(tx); got != n {
				t.Errorf("%d of %d are in the contact list", got, n)
			}
			p, err := b.Moved.ProgressOf(tx, new)
			waiting := 0
			for _, c := range p.Contacts {
				if c.State == moved.ContactWaiting {
					waiting++
					if !strings.HasPrefix(c.Detail, "waits for its turn until ") {
						t.Errorf("%s: %q", c.Address, c.Detail)
					}
				}
			}
			if waiting != n-16 {
				t.Errorf("%d wait", waiting)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		// whom the owner removes meanwhile is not asked
		if err := st.Update(func(tx *store.Tx) error {
			store.Roster.Delete(tx, store.Key("juliet@new.example", who(59)))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if got := asked(); got != n {
			t.Errorf("%d were asked in the end", got)
		}
		if err := job(b, new, ""); err == nil || !strings.Contains(err.Error(), who(59)+"=dropped") {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		_ = st.Close()
	})
}
