package archive_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp/archive"
)

// Who floods an account whose device is there fills its archive: it is cut back long before the hour is over, and never much larger than it may be.
func TestFloodOfArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 100_000
		b := newBox(t, archive.Options{MaxBytes: most})
		b.members(romeo)
		store1000 := func() (stored int) {
			b.update(func(tx *store.Tx) {
				for i := range 1000 {
					if b.archive.Archives(tx, romeo, juliet) {
						e := store.Entry{Stanza: fmt.Appendf(nil, "<message from='%s' to='%s'><body>%0900d</body></message>", juliet, romeo, i)}
						e.Owners = []store.Owner{{Account: romeo.String(), With: juliet.String(), Role: store.Archived}}
						store.AppendLog(tx, &e)
						stored++
					}
				}
			})
			return stored
		}
		b.archive.Start()
		if n := store1000(); n > 600 {
			t.Errorf("%d messages of about 1000 bytes went into an archive of %d", n, most)
		}
		time.Sleep(10 * time.Second)
		if n := b.count(romeo, store.Archived); n > 110 {
			t.Errorf("%d messages are left after some seconds", n)
		}
		if n := store1000(); n < 100 {
			t.Errorf("only %d messages went into an archive that was cut back", n)
		}
	})
}

// Under a lasting flood the log is freed faster than it grows, also at no quiet moment.
func TestPurgeUnderFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{MaxAge: time.Minute})
		b.members(romeo)
		b.update(func(tx *store.Tx) {
			for range 5000 {
				add(tx, b.r, juliet, romeo, "old", store.Archived)
			}
		})
		b.archive.Start()
		time.Sleep(10 * time.Minute)
		for range 5 * 60 {
			b.update(func(tx *store.Tx) { add(tx, b.r, juliet, romeo, "new", store.Archived) })
			time.Sleep(time.Second)
		}
		left := 0
		b.update(func(tx *store.Tx) {
			for seq := range store.LastLogSeq(tx) {
				if _, ok := store.LogEntry(tx, seq+1); ok {
					left++
				}
			}
		})
		if left > 600 {
			t.Errorf("%d entries are left after five minutes", left)
		}
	})
}
