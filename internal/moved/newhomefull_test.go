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

// A new account with a long contact list of its own may have no room for all: whom it has none for is named, and not asked.
func TestMergeIntoAFullContactList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(path, store.Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		const old, new = "juliet@old.example", "juliet@new.example"
		if err := st.Update(func(tx *store.Tx) error {
			for _, name := range []string{old, new} {
				store.Accounts.Put(tx, name, store.Account{Created: time.Now()})
			}
			for i := range 1999 {
				store.Roster.Put(tx, store.Key(new, fmt.Sprintf("friend%d@verona.example", i)), store.RosterItem{Sub: store.SubBoth})
			}
			for _, who := range []string{"a@montague.example", "b@montague.example", "friend7@verona.example"} {
				store.Roster.Put(tx, store.Key(old, who), store.RosterItem{Sub: store.SubTo, Name: "Known"})
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w := &listening{}
		b := newBox(t, st, config.Default(), []string{"old.example", "new.example"}, w)
		defer func() { _ = b.Close() }()
		if err := b.Moved.Move(xmpp.MustJID(old), xmpp.MustJID(new), moved.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := st.View(func(tx *store.Tx) error {
			p, err := b.Moved.ProgressOf(tx, xmpp.MustJID(new))
			if err != nil {
				return err
			}
			for i, want := range []moved.ContactState{moved.ContactSending, moved.ContactFailed, moved.ContactFollowed} {
				if c := p.Contacts[i]; c.State != want || want == moved.ContactFailed && !strings.Contains(c.Detail, "the contact list is full: it holds 2000 contacts; make room there") {
					t.Errorf("%+v", c)
				}
			}
			if n := store.Roster.Count(tx, new); n != 2000 {
				t.Errorf("it holds %d", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if sent := strings.Join(w.sent, ""); strings.Contains(sent, "b@montague") {
			t.Error(sent)
		}
	})
}

// listening are other servers that do not answer. All is said on the committer's effects, one after the other.
type listening struct{ sent []string }

func (w *listening) Send(st *xmpp.Stanza) { w.sent = append(w.sent, string(st.Raw)) }
