package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// heirModel is what archives are to hold, by account and sequence.
type heirModel struct {
	*testing.T
	rand  *rand.Rand
	own   map[string]map[uint64]string // the other side
	floor map[string]uint64
	taken map[string]uint64 // by heir and former: up to there
}

func (m *heirModel) append(tx *Tx) {
	e := Entry{Stanza: fmt.Appendf(nil, "<message id='%d'/>", m.rand.IntN(1e6))}
	with := fmt.Sprintf("friend%d@montague.example", m.rand.IntN(3))
	for _, name := range m.some() {
		e.Owners = append(e.Owners, Owner{Account: name, With: with, Role: Archived | ByOwner*Role(m.rand.IntN(2)*1)})
	}
	if len(e.Owners) > 0 {
		seq := AppendLog(tx, &e)
		for _, o := range e.Owners {
			m.own[o.Account][seq] = with
		}
	}
}

func (m *heirModel) some() (list []string) {
	for _, name := range []string{"a@x", "b@x", "c@x", "d@x"} {
		if m.rand.IntN(2) == 0 {
			list = append(list, name)
		}
	}
	return list
}

func (m *heirModel) step(tx *Tx) {
	from, to := string(rune('a'+m.rand.IntN(4)))+"@x", string(rune('a'+m.rand.IntN(4)))+"@x"
	switch n := m.rand.IntN(100); {
	case n < 70:
		for range m.rand.IntN(40) {
			m.append(tx)
		}
	case n < 85 && from != to:
		for more := true; more; {
			_, more = InheritLog(tx, to, from, 1+m.rand.IntN(200))
		}
		for seq, with := range m.own[from] {
			if _, ok := m.own[to][seq]; !ok && seq > max(m.floor[to], m.taken[to+from]) {
				m.own[to][seq] = with
			}
		}
		m.taken[to+from] = LastLogSeq(tx)
	case n < 90:
		for Retain(tx, to, time.Time{}, 1+int64(m.rand.IntN(40000))) {
		}
		m.floor[to] = readHolder(tx, to).floor
		maps.DeleteFunc(m.own[to], func(seq uint64, _ string) bool { return seq <= m.floor[to] })
	case n < 92:
		ClearAccount(tx, to)
		m.own[to], m.floor[to] = map[uint64]string{}, 0
		maps.DeleteFunc(m.taken, func(pair string, _ uint64) bool { return pair[:3] == to })
	default:
		PurgeLog(tx, 1+m.rand.IntN(300))
	}
}

func (m *heirModel) compare(tx *Tx) error {
	for name, own := range m.own {
		want := slices.Sorted(maps.Keys(own))
		var have, back []uint64
		by := map[string]int{}
		for o := range LogOf(tx, Range{Account: name, Role: Archived}) {
			have = append(have, o.Seq)
			if one, ok := OwnedEntry(tx, name, o.Seq); !ok || one.Role != o.Role {
				return fmt.Errorf("%s: entry %d is not found by itself", name, o.Seq)
			}
		}
		for o := range LogOf(tx, Range{Account: name, Role: Archived, Backwards: true}) {
			back = append(back, o.Seq)
		}
		slices.Reverse(back)
		if !slices.Equal(have, want) || !slices.Equal(back, want) {
			lacks := slices.DeleteFunc(slices.Clone(want), func(s uint64) bool { return slices.Contains(have, s) })
			more := slices.DeleteFunc(slices.Clone(have), func(s uint64) bool { return slices.Contains(want, s) })
			return fmt.Errorf("%s lacks %v, has also %v; backwards it is the same: %v", name, lacks, more, slices.Equal(have, back))
		}
		for _, with := range own {
			by[with]++
		}
		for with, n := range by {
			got := 0
			for range LogOf(tx, Range{Account: name, With: with, Role: Archived}) {
				got++
			}
			if got != n {
				return fmt.Errorf("%s has %d with %s instead of %d", name, got, with, n)
			}
		}
		if st := LogStats(tx, name); st.Count != len(want) {
			return fmt.Errorf("%s counts %d instead of %d", name, st.Count, len(want))
		}
	}
	return nil
}

// Whatever accounts store, inherit, lose and purge: each has what it is to have, in order, and nothing stays when all are gone.
func TestInheritAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		s, err := Open(filepath.Join(t.TempDir(), "pibox.db"), Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		m := &heirModel{T: t, rand: rand.New(rand.NewPCG(seed, 1)), own: map[string]map[uint64]string{}, floor: map[string]uint64{}, taken: map[string]uint64{}}
		for _, name := range []string{"a@x", "b@x", "c@x", "d@x"} {
			m.own[name] = map[uint64]string{}
		}
		update := func(f func(tx *Tx) error) {
			if err := s.Update(f); err != nil {
				t.Fatal(seed, err)
			}
		}
		for range 40 {
			update(func(tx *Tx) error {
				for range 4 {
					m.step(tx)
				}
				return m.compare(tx)
			})
		}
		update(func(tx *Tx) error {
			moveTail(tx)
			for name := range m.own {
				ClearAccount(tx, name)
			}
			for PurgeLog(tx, 1000) {
			}
			n, ix, with := logTable.Count(tx), Table[Count]{string(ownedIndex)}.Count(tx), Table[Count]{string(withIndex)}.Count(tx)
			if n+ix+with > 0 {
				t.Errorf("seed %d: %d entries, %d and %d chunks are left", seed, n, ix, with)
			}
			return nil
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An heir costs a few bytes for each entry, and no entry is written again.
func TestInheritCosts(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "pibox.db"), Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const n = 5000
	sizes := func(tx *Tx) (log, index int) {
		_, log = logTable.Size(tx)
		_, owned := Table[Count]{string(ownedIndex)}.Size(tx)
		_, with := Table[Count]{string(withIndex)}.Size(tx)
		return log, owned + with
	}
	if err := s.Update(func(tx *Tx) error {
		stanza := make([]byte, 400)
		for i := range n {
			AppendLog(tx, &Entry{Owners: []Owner{{Account: "a@x", With: fmt.Sprintf("f%d@y", i%5), Role: Archived}}, Stanza: stanza})
		}
		moveTail(tx)
		log, index := sizes(tx)
		for more := true; more; {
			_, more = InheritLog(tx, "b@x", "a@x", 300)
		}
		log2, index2 := sizes(tx)
		if got := LogStats(tx, "b@x"); got.Count != n || got.Bytes != n*400 {
			t.Errorf("%+v", got)
		}
		if each := float64(index2-index) / n; log != log2 || each > 10 {
			t.Errorf("the log grew by %d bytes, the indexes by %.1f for each entry", log2-log, each)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Archives become one only where the order in which they were stored is that of their times.
func TestLogsMerge(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "pibox.db"), Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Update(func(tx *Tx) error {
		entry := func(account string) *Entry {
			return &Entry{At: time.Now().Add(-time.Hour), Owners: []Owner{{Account: account, With: "x@y", Role: Archived}}, Stanza: []byte("<message/>")}
		}
		AppendLog(tx, entry("a@x"))
		AppendLog(tx, entry("b@x"))
		AppendLog(tx, entry("a@x"))
		ImportLog(tx, entry("c@x"))
		for _, c := range []struct {
			a, b string
			want bool
		}{{"a@x", "b@x", true}, {"b@x", "a@x", true}, {"none@x", "c@x", true}, {"c@x", "none@x", true}, {"a@x", "c@x", false}, {"c@x", "b@x", false}} {
			if got := LogsMerge(tx, c.a, c.b); got != c.want {
				t.Errorf("%s and %s: %v", c.a, c.b, got)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
