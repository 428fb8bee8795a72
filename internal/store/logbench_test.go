package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const benchUsers = 6

func benchUser(i int) string { return fmt.Sprintf("member%d@family.example", i%benchUsers) }

// benchEntry is a message from one member to another, as it is archived for both.
func benchEntry(i int) *Entry {
	from, to := benchUser(i), benchUser(i+1+i/benchUsers%(benchUsers-1))
	return &Entry{
		Owners: []Owner{{from, to, Archived | ByOwner}, {to, from, Archived | Owed}},
		Stanza: fmt.Appendf(nil, `<message xmlns='jabber:client' from='%s/phone' to='%s' type='chat' id='%d'><body>%s</body>`+
			`<origin-id xmlns='urn:xmpp:sid:0' id='%d'/><request xmlns='urn:xmpp:receipts'/></message>`, from, to, i, strings.Repeat("word ", 16), i),
	}
}

// benchMessage is what one message writes: the entry, that it was handled (XEP-0198), and that the one before was delivered.
func benchMessage(tx *Tx, i int) {
	e := benchEntry(i)
	SetDelivered(tx, e.Owners[1].Account, LastLogSeq(tx))
	AppendLog(tx, e)
	Progress.Put(tx, Key(ProgressHandled, fmt.Sprintf("session-of-member-%d", i%(3*benchUsers))), Count(i))
}

// fillLog brings a store to n messages, among what else a family has.
func fillLog(b testing.TB, s *Store, n int) {
	if err := s.Update(func(tx *Tx) error {
		for i := range benchUsers {
			key := strings.Repeat("k", 32)
			c := Credentials{Salt: []byte(key[:16]), Iterations: 10000, StoredKey: []byte(key), ServerKey: []byte(key)}
			Accounts.Put(tx, benchUser(i), Account{SHA1: c, SHA256: c})
			LastSeen.Put(tx, benchUser(i), Last{At: time.Now()})
			RosterV.Put(tx, benchUser(i), RosterVersion{Version: 20})
			for j := range 2 * benchUsers {
				Roster.Put(tx, Key(benchUser(i), benchUser(j)), RosterItem{Name: "Somebody", Sub: SubBoth})
				PEPItems.Put(tx, Key(benchUser(i), fmt.Sprint("node", j), "current"), PEPItem{At: time.Now(), Publisher: benchUser(i), Payload: []byte(strings.Repeat("x", 500))})
			}
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	for done := 0; done < n; {
		if err := s.Update(func(tx *Tx) error {
			for end := min(n, done+2000); done < end; done++ {
				AppendLog(tx, benchEntry(done))
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Update(func(tx *Tx) error {
		for i := range benchUsers {
			SetDelivered(tx, benchUser(i), LastLogSeq(tx))
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}

// written is what this process gave to the kernel to write: bytes of the calls, and of the pages that these made dirty.
func written(b testing.TB) (calls, pages int) {
	raw, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(raw)) {
		_, _ = fmt.Sscanf(line, "wchar: %d", &calls)
		_, _ = fmt.Sscanf(line, "write_bytes: %d", &pages)
	}
	return calls, pages
}

// BenchmarkLogWrites: bytes written for each message.
func BenchmarkLogWrites(b *testing.B) {
	for _, filled := range []int{1000, 300_000} {
		s := open(b, Options{})
		fillLog(b, s, filled)
		for _, together := range []int{1, 5, 20, 100} {
			b.Run(fmt.Sprintf("filled=%d/together=%d", filled, together), func(b *testing.B) {
				calls, pages := written(b)
				n := 0
				for b.Loop() {
					if err := s.Update(func(tx *Tx) error {
						for range together {
							benchMessage(tx, n)
							n++
						}
						return nil
					}); err != nil {
						b.Fatal(err)
					}
				}
				calls2, pages2 := written(b)
				b.ReportMetric(float64(calls2-calls)/float64(n), "B/msg")
				b.ReportMetric(float64(pages2-pages)/float64(n), "dirty-B/msg")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/msg")
			})
		}
	}
}

// BenchmarkLogPurge: how long the committer is busy, and what is written, when the first part of a long log goes; an op is a batch of 200.
func BenchmarkLogPurge(b *testing.B) {
	s := open(b, Options{})
	fillLog(b, s, 200_000)
	began := time.Now()
	if err := s.Update(func(tx *Tx) error {
		for i := range benchUsers {
			Retain(tx, benchUser(i), time.Time{}, 1)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	b.Logf("Retain, once for each of %d accounts: %v", benchUsers, time.Since(began))
	calls, _ := written(b)
	n := 0
	for b.Loop() {
		if err := s.Update(func(tx *Tx) error { PurgeLog(tx, 200); return nil }); err != nil {
			b.Fatal(err)
		}
		n++
	}
	after, _ := written(b)
	b.ReportMetric(float64(after-calls)/float64(n), "B/batch")
}

// BenchmarkLogReads: what queries cost in a short and in a long log, and how long it takes to open it.
func BenchmarkLogReads(b *testing.B) {
	for _, filled := range []int{1000, 1_000_000} {
		path := filepath.Join(b.TempDir(), "pibox.db")
		s := benchOpen(b, path)
		fillLog(b, s, filled)
		b.Run(fmt.Sprintf("filled=%d", filled), func(b *testing.B) {
			benchQueries(b, s, uint64(filled))
			if info, err := os.Stat(path); err == nil {
				b.Logf("a file of %d bytes for each message", info.Size()/int64(filled))
			}
			b.Run("OpenAfterCrash", func(b *testing.B) {
				for b.Loop() {
					_ = s.db.Close() // as a crash leaves it: no list of free pages
					s = benchOpen(b, path)
				}
			})
			b.Run("OpenAfterStop", func(b *testing.B) {
				for b.Loop() {
					_ = s.Close()
					s = benchOpen(b, path)
				}
			})
			b.Run("Check", func(b *testing.B) {
				_ = s.Close()
				for b.Loop() {
					if err := Check(path); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func benchOpen(b *testing.B, path string) *Store {
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchQueries(b *testing.B, s *Store, n uint64) {
	me, with := benchUser(0), benchUser(1)
	page := func(tx *Tx, r Range) {
		got := 0
		for range LogOf(tx, r) {
			if got++; got == 50 {
				break
			}
		}
		if got != 50 {
			b.Fatalf("%d entries", got)
		}
	}
	var middle, end time.Time
	_ = s.View(func(tx *Tx) error {
		e, _ := LogEntry(tx, n/2)
		last, _ := LogEntry(tx, n)
		middle, end = e.At, last.At
		return nil
	})
	for _, q := range []struct {
		name string
		run  func(tx *Tx)
	}{
		{"NewestPage", func(tx *Tx) { page(tx, Range{Account: me, Backwards: true, Role: Archived}) }},
		{"FirstPage", func(tx *Tx) { page(tx, Range{Account: me, Role: Archived}) }},
		{"MiddlePage", func(tx *Tx) { page(tx, Range{Account: me, After: n / 2, Role: Archived}) }},
		{"MiddlePageBackwards", func(tx *Tx) {
			page(tx, Range{Account: me, Before: n / 2, Backwards: true, Role: Archived})
		}},
		{"MiddlePageWith", func(tx *Tx) { page(tx, Range{Account: me, With: with, After: n / 4, Role: Archived}) }},
		{"LogSeqAt", func(tx *Tx) { LogSeqAt(tx, me, middle) }},
		{"LogSeqAtEnd", func(tx *Tx) { LogSeqAt(tx, me, end) }},
		{"LogStats", func(tx *Tx) { LogStats(tx, me) }},
		{"OwedCount", func(tx *Tx) { OwedCount(tx, me) }},
		{"LogID", func(tx *Tx) { ParseLogID(tx, me, LogID(tx, me, n)) }},
		{"IDsOfAPage", func(tx *Tx) {
			for i := range uint64(50) {
				LogID(tx, me, i)
			}
		}},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.View(func(tx *Tx) error { q.run(tx); return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
