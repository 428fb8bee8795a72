package archive_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
)

func (b *box) count(account xmpp.JID, role store.Role) (n int) {
	b.t.Helper()
	b.update(func(tx *store.Tx) {
		for range store.LogOf(tx, store.Range{Account: account.String(), Role: role}) {
			n++
		}
	})
	return n
}

func (b *box) members(jids ...xmpp.JID) {
	b.update(func(tx *store.Tx) {
		for _, j := range jids {
			store.Accounts.Put(tx, j.String(), store.Account{})
		}
	})
}

// What is older than the limit leaves the archive, the oldest first, in every account; what still waits for a device is delivered nevertheless.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{MaxAge: 24 * time.Hour})
		b.members(romeo, tybalt)
		for i := range 350 {
			b.update(func(tx *store.Tx) {
				add(tx, b.r, romeo.With("x"), tybalt, fmt.Sprint(i), store.Archived|store.Owed)
			})
		}
		time.Sleep(23 * time.Hour)
		b.update(func(tx *store.Tx) { add(tx, b.r, romeo.With("x"), tybalt, "late", store.Archived|store.Owed) })
		b.archive.Start()
		time.Sleep(50 * time.Minute)
		if n := b.count(romeo, store.Archived); n != 351 {
			t.Errorf("%d messages are left before their time", n)
		}
		time.Sleep(80 * time.Minute)
		for _, j := range []xmpp.JID{romeo, tybalt} {
			if n := b.count(j, store.Archived); n != 1 {
				t.Errorf("%d messages of %s are left", n, j)
			}
		}
		if n := b.count(tybalt, store.Owed); n != 351 {
			t.Errorf("only %d wait for a device", n)
		}
		got, _ := b.ask("set", "<query xmlns='urn:xmpp:mam:2'/>")
		if len(got) != 1 {
			t.Errorf("%d results", len(got))
		}
	})
}

// Of an archive that is too large the oldest messages go.
func TestMaxBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{MaxBytes: 10_000})
		b.members(romeo)
		size := 0
		b.update(func(tx *store.Tx) {
			for i := range 250 {
				e := store.Entry{Stanza: fmt.Appendf(nil, "<message from='%s' to='%s'><body>%04d</body></message>", juliet, romeo, i)}
				e.Owners = []store.Owner{{Account: romeo.String(), With: juliet.String(), Role: store.Archived}}
				size = len(e.Stanza)
				store.AppendLog(tx, &e)
			}
		})
		b.archive.Start()
		time.Sleep(time.Hour)
		left := 10_000 / size
		if n := b.count(romeo, store.Archived); n != left {
			t.Errorf("%d messages are left instead of %d", n, left)
		}
		b.update(func(tx *store.Tx) {
			for o := range store.LogOf(tx, store.Range{Account: romeo.String()}) {
				if want := fmt.Sprintf("<body>%04d</body>", 250-left); string(o.Stanza[len(o.Stanza)-len(want)-len("</message>"):len(o.Stanza)-len("</message>")]) != want {
					t.Errorf("the first one left is %s", o.Stanza)
				}
				break
			}
		})
	})
}

// Retention waits while messages are stored, but not for ever; and Stop does not wait for it.
func TestRetentionWaitsForQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{MaxAge: time.Minute})
		b.members(romeo)
		b.update(func(tx *store.Tx) { add(tx, b.r, juliet, romeo, "old", store.Archived) })
		b.archive.Start()
		time.Sleep(10 * time.Minute)
		for range 50 {
			b.update(func(tx *store.Tx) { add(tx, b.r, juliet, romeo, "new", store.Archived) })
			time.Sleep(time.Second)
		}
		if n := b.count(romeo, store.Archived); n != 51 {
			t.Errorf("%d messages are left while others write", n)
		}
		for range 20 {
			b.update(func(tx *store.Tx) { add(tx, b.r, juliet, romeo, "new", store.Archived) })
			time.Sleep(time.Second)
		}
		if n := b.count(romeo, store.Archived); n >= 71 {
			t.Errorf("%d messages are left after a minute", n)
		}
		before := time.Now()
		b.archive.Stop()
		if waited := time.Since(before); waited > 0 {
			t.Errorf("Stop took %v", waited)
		}
		b.update(func(tx *store.Tx) { add(tx, b.r, juliet, romeo, "last", store.Archived) })
		n := b.count(romeo, store.Archived)
		time.Sleep(24 * time.Hour)
		if now := b.count(romeo, store.Archived); now != n {
			t.Errorf("%d messages of %d are left after Stop", now, n)
		}
	})
}
