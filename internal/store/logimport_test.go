package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// What is imported keeps its times, beside what others store meanwhile and what the account gets afterwards.
func TestImportLog(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "pibox.db"), Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const me, other = "juliet@capulet.example", "nurse@capulet.example"
	const n = 3000
	began := time.Now().Truncate(time.Millisecond)
	first := began.Add(-n * time.Hour).UTC()
	update := func(f func(tx *Tx)) {
		t.Helper()
		if err := s.Update(func(tx *Tx) error { f(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	live := func(tx *Tx, account string) {
		AppendLog(tx, &Entry{Owners: []Owner{{Account: account, With: "romeo@montague.example", Role: Archived}}, Stanza: []byte("<message/>")})
	}
	var seqs []uint64
	for i := 0; i < n; i += 100 {
		update(func(tx *Tx) {
			live(tx, other)
			for j := i; j < i+100; j++ {
				e := Entry{
					At: first.Add(time.Duration(j) * time.Hour), Stanza: fmt.Appendf(nil, "<message id='%d'/>", j),
					Owners: []Owner{{Account: me, With: "romeo@montague.example", Role: Archived}},
				}
				seqs = append(seqs, ImportLog(tx, &e))
			}
		})
	}
	update(func(tx *Tx) {
		e := Entry{At: time.Now().Add(time.Hour), Owners: []Owner{{Account: me, With: "x", Role: Archived}}}
		if ImportLog(tx, &e); e.At.After(time.Now()) {
			t.Error("an entry is of the future")
		}
		live(tx, me)
		live(tx, other)
	})
	update(func(tx *Tx) {
		i := 0
		for o := range LogOf(tx, Range{Account: me, Role: Archived}) {
			if want := first.Add(time.Duration(i) * time.Hour); i < n && !o.At.Equal(want) || i >= n && o.At.Before(began) {
				t.Fatalf("entry %d is of %v instead of %v", i, o.At, want)
			}
			i++
		}
		if i != n+2 {
			t.Fatalf("%d entries instead of %d", i, n+2)
		}
		for i := range n {
			for _, d := range []time.Duration{-time.Minute, 0} {
				at := first.Add(time.Duration(i)*time.Hour + d)
				after := LogSeqAt(tx, me, at) - 1
				for o := range LogOf(tx, Range{Account: me, After: after}) {
					if o.Seq != seqs[i] {
						t.Fatalf("from %v on it begins with %d instead of %d", at, o.Seq, seqs[i])
					}
					break
				}
			}
		}
		if e, _ := LogEntry(tx, LogSeqAt(tx, other, began)); e.Owners[0].Account != other && e.Owners[0].Account != me {
			t.Error("another account's entries are not found")
		}
		if Retain(tx, me, first.Add(1000*time.Hour), 0) {
			t.Error("there is more")
		}
		if got := LogStats(tx, me).Count; got != n+2-1000 {
			t.Errorf("%d entries are left", got)
		}
	})
	update(func(tx *Tx) {
		Owe(tx, me, seqs[2000])
		Owe(tx, me, seqs[n-1])
		Owe(tx, me, seqs[n-1])
		Owe(tx, other, seqs[2500])
	})
	update(func(tx *Tx) {
		var owed []uint64
		for o := range LogOf(tx, Range{Account: me, Role: Owed}) {
			owed = append(owed, o.Seq)
		}
		if !slices.Equal(owed, []uint64{seqs[2000], seqs[n-1]}) {
			t.Errorf("owed is %v", owed)
		}
		if LogStats(tx, me).Count != n+2-1000 {
			t.Error("the count is another one")
		}
	})
}
