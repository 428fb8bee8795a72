package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// logModel is what the log is to look like, kept in the simplest way.
type logModel struct {
	last      uint64
	at        time.Time
	entries   []modelEntry // in order
	delivered map[string]uint64
	sent      uint64
}

type modelEntry struct {
	seq    uint64
	e      Entry
	owners map[string]Owner
}

func (m *logModel) role(o Owner, seq uint64) Role {
	if seq <= m.delivered[o.Account] {
		o.Role &^= Owed
	}
	if !o.Role.owns() {
		return 0
	}
	return o.Role
}

func (m *logModel) of(r Range) (out []string) {
	for _, e := range m.entries {
		o, ok := e.owners[r.Account]
		role := m.role(o, e.seq)
		if !ok || role == 0 || role&r.Role != r.Role || r.With != "" && r.With != o.With || e.seq <= r.After || r.Before > 0 && e.seq >= r.Before {
			continue
		}
		out = append(out, fmt.Sprint(e.seq, role, e.e.At.UnixMilli(), " ", string(e.e.Stanza)))
	}
	if r.Backwards {
		slices.Reverse(out)
	}
	return out
}

func (m *logModel) stats(account string) (s LogStat) {
	for _, e := range m.entries {
		if o, ok := e.owners[account]; ok && o.Role&Archived != 0 {
			s.Count++
			s.Bytes += int64(len(e.e.Stanza))
			s.Last = e.seq
			if s.First == 0 {
				s.First = e.seq
			}
		}
	}
	return s
}

func (m *logModel) drop(account string, seq uint64, drop Role) {
	for _, e := range m.entries {
		if o, ok := e.owners[account]; ok && e.seq == seq {
			if o.Role = m.role(o, seq) &^ drop; !o.Role.owns() {
				delete(e.owners, account)
				continue
			}
			e.owners[account] = o
		}
	}
}

// logTest plays random operations on a log and on the model.
type logTest struct {
	t    *testing.T
	rand *rand.Rand
	m    logModel
	path string
	s    *Store
}

var (
	modelAccounts = []string{"a@x", "ab@x", "b@x", "c@y"}
	modelOthers   = []string{"", "b@x", "z@z", "zz@z"}
)

func (lt *logTest) pick(from []string) string { return from[lt.rand.IntN(len(from))] }

func (lt *logTest) seq() uint64 { return lt.m.last - min(lt.m.last, uint64(lt.rand.IntN(700))) }

func (lt *logTest) append(tx *Tx) {
	e := Entry{Stanza: bytes.Repeat([]byte("x"), lt.rand.IntN(60)), Remote: lt.rand.IntN(8) == 0}
	if lt.rand.IntN(200) == 0 {
		e.Stanza = bytes.Repeat([]byte("y"), tailLarge)
	}
	for range lt.rand.IntN(4) {
		e.Owners = append(e.Owners, Owner{Account: lt.pick(modelAccounts), With: lt.pick(modelOthers), Role: Role(lt.rand.IntN(8))})
	}
	me := modelEntry{owners: map[string]Owner{}}
	for _, o := range e.Owners {
		if had, twice := me.owners[o.Account]; twice {
			had.Role |= o.Role
			o = had
		}
		me.owners[o.Account] = o
	}
	now := lt.m.at.Add(time.Duration(lt.rand.IntN(40)-10) * time.Millisecond)
	me.seq = appendLog(tx, &e, now)
	me.e = e
	lt.m.last++
	if me.seq != lt.m.last || e.At.Before(now) || e.At.After(now) && e.At.After(lt.m.at) {
		lt.t.Errorf("entry %d at %v, expected %d at %v to %v", me.seq, e.At, lt.m.last, now, lt.m.at)
	}
	if e.At.After(lt.m.at) {
		lt.m.at = e.At
	}
	lt.m.entries = append(lt.m.entries, me)
}

func (lt *logTest) change(tx *Tx) {
	account := lt.pick(modelAccounts)
	switch n := lt.rand.IntN(100); {
	case n < 60:
		for range 1 + lt.rand.IntN(40) {
			lt.append(tx)
		}
	case n < 75:
		seq, role := lt.seq(), Role(lt.rand.IntN(8))
		DropRole(tx, account, seq, role)
		lt.m.drop(account, seq, role)
	case n < 78:
		lt.m.sent = max(lt.m.sent, lt.seq())
		Progress.Put(tx, Key(ProgressSent, "x", "y"), Count(lt.m.sent))
	case n < 81:
		seq := lt.seq()
		ForgetRemote(tx, seq)
		for i := range lt.m.entries {
			if lt.m.entries[i].seq == seq {
				lt.m.entries[i].e.Remote = false
			}
		}
	case n < 88:
		seq := lt.seq()
		SetDelivered(tx, account, seq)
		lt.m.delivered[account] = max(seq, lt.m.delivered[account])
	case n < 93:
		lt.retain(tx, account)
	case n < 94:
		ClearAccount(tx, account)
		for _, e := range lt.m.entries {
			delete(e.owners, account)
		}
		delete(lt.m.delivered, account)
	default:
		PurgeLog(tx, 1+lt.rand.IntN(100))
	}
}

func (lt *logTest) retain(tx *Tx, account string) {
	var older time.Time
	var most int64
	if lt.rand.IntN(2) == 0 {
		older = lt.m.at.Add(-time.Duration(lt.rand.IntN(4000)) * time.Millisecond)
	}
	left := lt.m.stats(account).Bytes
	if lt.rand.IntN(2) == 0 {
		most = left - left/4
	}
	if Retain(tx, account, older, most) {
		lt.t.Error("so few entries should be done at once")
	}
	for _, e := range lt.m.entries {
		o, ok := e.owners[account]
		if !ok || o.Role&Archived == 0 {
			continue
		}
		if !e.e.At.Before(older) && (most == 0 || left <= most) {
			break
		}
		left -= int64(len(e.e.Stanza))
		if o.Role &^= Archived; !o.Role.owns() {
			delete(e.owners, account)
			continue
		}
		e.owners[account] = o
	}
}

func (lt *logTest) compare(tx *Tx) {
	r := Range{Account: lt.pick(modelAccounts), With: lt.pick(modelOthers), Backwards: lt.rand.IntN(2) == 0, Role: Role(lt.rand.IntN(8))}
	if lt.rand.IntN(2) == 0 {
		r.After = lt.seq()
	}
	if lt.rand.IntN(2) == 0 {
		r.Before = lt.seq()
	}
	var have []string
	for o := range LogOf(tx, r) {
		have = append(have, fmt.Sprint(o.Seq, o.Role, o.At.UnixMilli(), " ", string(o.Stanza)))
		if one, ok := OwnedEntry(tx, r.Account, o.Seq); !ok || one.Role != o.Role || !one.At.Equal(o.At) {
			lt.t.Errorf("LogOf has %v, OwnedEntry %v %v", o, ok, one)
		}
	}
	if diff := cmp.Diff(lt.m.of(r), have); diff != "" {
		lt.t.Fatalf("%+v:\n%s", r, diff)
	}
	var recent []string
	for raw := range RecentLog(tx, r.Account, r.With, 20) {
		recent = append(recent, string(raw))
	}
	var last []string
	for o := range LogOf(tx, Range{Account: r.Account, With: r.With, Backwards: true}) {
		if last = append(last, string(o.Stanza)); len(last) == 20 {
			break
		}
	}
	if diff := cmp.Diff(last, recent); diff != "" {
		lt.t.Fatalf("the last of %s with %q:\n%s", r.Account, r.With, diff)
	}
	if want, have := lt.m.stats(r.Account), LogStats(tx, r.Account); want != have {
		lt.t.Fatalf("%s: %+v, expected %+v", r.Account, have, want)
	}
	if want, have := len(lt.m.of(Range{Account: r.Account, Role: Owed})), OwedCount(tx, r.Account); want != have {
		lt.t.Fatalf("%s: %d owed, expected %d", r.Account, have, want)
	}
	if have := LastLogSeq(tx); have != lt.m.last {
		lt.t.Fatalf("last %d, expected %d", have, lt.m.last)
	}
	lt.compareRemote(tx)
	lt.compareTime(tx)
}

func (lt *logTest) compareRemote(tx *Tx) {
	after := lt.seq()
	have := map[uint64]bool{}
	for seq := range LogRemote(tx, after) {
		have[seq] = true
	}
	for _, e := range lt.m.entries {
		owed := e.e.Remote && e.seq > after
		if owed && e.seq > lt.m.sent && !have[e.seq] || !owed && have[e.seq] {
			lt.t.Fatalf("entry %d is owed to another server: %v", e.seq, owed)
		}
	}
}

func (lt *logTest) compareTime(tx *Tx) {
	at := lt.m.at.Add(-time.Duration(lt.rand.IntN(5000)-100) * time.Millisecond)
	for _, account := range modelAccounts {
		seq := LogSeqAt(tx, account, at)
		for _, e := range lt.m.entries {
			mine := lt.m.role(e.owners[account], e.seq) != 0
			if early := e.e.At.Before(at); mine && (early && e.seq >= seq || !early && e.seq < seq) {
				lt.t.Fatalf("the entries of %s from %v on begin at %d, but %d is of %v", account, at, seq, e.seq, e.e.At)
			}
		}
	}
	for _, e := range lt.m.entries {
		_, there := LogEntry(tx, e.seq)
		if !there && (e.e.Remote && e.seq > lt.m.sent || slices.ContainsFunc(modelAccounts, func(a string) bool { return lt.m.role(e.owners[a], e.seq) != 0 })) {
			lt.t.Fatalf("entry %d is owned, and lost", e.seq)
		}
	}
}

// clean tells whether, after everything was purged, the tables hold what the model says, and nothing else.
func (lt *logTest) clean(tx *Tx) {
	PurgeLog(tx, 1<<30)
	held := map[uint64]bool{}
	for _, e := range lt.m.entries {
		held[e.seq] = e.e.Remote && e.seq > lt.m.sent
		for _, o := range e.owners {
			held[e.seq] = held[e.seq] || lt.m.role(o, e.seq) != 0
		}
	}
	for key := range logTable.All(tx) {
		if !held[SeqOf(key)] {
			lt.t.Errorf("entry %d is left over", SeqOf(key))
		}
	}
	for _, ix := range []index{ownedIndex, withIndex} {
		b := tx.bucket(string(ix))
		_ = b.ForEach(func(k, v []byte) error {
			account, _, _ := strings.Cut(strings.TrimPrefix(string(k), live), "\x00")
			h := readHolder(tx, account)
			for _, p := range ix.decode(tx, k, v, nil) {
				if !held[p.seq] || h.role(p.seq, p.role) == 0 {
					lt.t.Errorf("%s: %q has %d, which is gone", ix, k, p.seq)
				}
			}
			return nil
		})
	}
}

func TestLogAgainstModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			lt := &logTest{t: t, rand: rand.New(rand.NewPCG(seed, 3)), path: filepath.Join(t.TempDir(), "pibox.db")}
			lt.m = logModel{at: time.Now().UTC().Truncate(time.Millisecond), delivered: map[string]uint64{}}
			lt.open()
			_ = lt.s.Update(func(tx *Tx) error { Progress.Put(tx, Key(ProgressSent, "x", "y"), 0); return nil })
			for range 100 {
				lt.step()
			}
			if err := lt.s.Update(func(tx *Tx) error { lt.clean(tx); lt.compare(tx); return nil }); err != nil {
				t.Error(err)
			}
			lt.close(false)
		})
	}
}

func (lt *logTest) step() {
	if err := lt.s.Update(func(tx *Tx) error {
		for range 1 + lt.rand.IntN(3) {
			lt.change(tx)
			lt.compare(tx)
		}
		return tx.Err()
	}); err != nil {
		lt.t.Fatal(err)
	}
	if lt.rand.IntN(30) == 0 {
		lt.close(lt.rand.IntN(2) == 0)
		lt.open()
	}
	if err := lt.s.View(func(tx *Tx) error { lt.compare(tx); return nil }); err != nil {
		lt.t.Fatal(err)
	}
}

func (lt *logTest) open() {
	var err error
	if lt.s, err = Open(lt.path, Options{Reserve: 1}); err != nil {
		lt.t.Fatal(err)
	}
}

// close stops the store, or leaves the file as a process does that is killed.
func (lt *logTest) close(killed bool) {
	if killed {
		lt.s.dbMu.Lock()
		if err := lt.s.db.Close(); err != nil {
			lt.t.Fatal(err)
		}
		lt.s.db = nil
		lt.s.dbMu.Unlock()
	}
	if err := lt.s.Close(); err != nil {
		lt.t.Fatal(err)
	}
	if err := Check(lt.path); err != nil {
		lt.t.Fatal(err)
	}
}

// What an iteration meets may be changed by who iterates.
func TestLogOfWhileItChanges(t *testing.T) {
	s := open(t, Options{})
	const me = "a@x"
	if err := s.Update(func(tx *Tx) error {
		for range 3 * tailMost / 2 {
			AppendLog(tx, &Entry{Owners: []Owner{{me, "b@x", Owed}}})
		}
		n, last := 0, LastLogSeq(tx)
		for o := range LogOf(tx, Range{Account: me, Before: last + 1}) {
			if n++; n%2 == 0 {
				DropRole(tx, me, o.Seq+1, Owed) // the next is not met any more
			}
			AppendLog(tx, &Entry{Owners: []Owner{{me, "b@x", Owed}}}) // lets the tail move
		}
		if want := tailMost; n != want {
			t.Errorf("met %d, expected %d", n, want)
		}
		before := n
		n = 0
		for o := range LogOf(tx, Range{Account: me, Backwards: true}) {
			n++
			DropRole(tx, me, o.Seq, Owed)
			AppendLog(tx, &Entry{})
		}
		if n != 2*before || OwedCount(tx, me) != 0 {
			t.Errorf("met %d, expected %d; left %d", n, 2*before, OwedCount(tx, me))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLogIDs(t *testing.T) {
	s, other := open(t, Options{}), open(t, Options{})
	id := func(s *Store, account string, seq uint64) (id string) {
		_ = s.View(func(tx *Tx) error { id = LogID(tx, account, seq); return tx.err })
		return id
	}
	a := id(s, "a@x", 7)
	if len(a) > 26 || a == id(s, "a@x", 8) || a == id(s, "b@x", 7) || a == id(other, "a@x", 7) || a != id(s, "a@x", 7) {
		t.Errorf("id %q", a)
	}
	if err := s.View(func(tx *Tx) error {
		if seq, ok := ParseLogID(tx, "a@x", a); !ok || seq != 7 {
			t.Errorf("%d %v", seq, ok)
		}
		for _, bad := range []string{"", a + "A", a[1:], "A" + a[1:], strings.Repeat("A", 22), a + "\n", a[:21] + "\n", "ü" + a[2:]} {
			if _, ok := ParseLogID(tx, "a@x", bad); ok && bad != a {
				t.Errorf("%q was taken for an id", bad)
			}
		}
		if _, ok := ParseLogID(tx, "b@x", a); ok {
			t.Error("another account's id was taken")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// After an older backup was restored no sequence is given again, and the ids that were given remain.
func TestRestoreSkipsSequences(t *testing.T) {
	s := open(t, Options{})
	var id string
	put := func(s *Store) (seq uint64) {
		if err := s.Update(func(tx *Tx) error {
			seq = AppendLog(tx, &Entry{Owners: []Owner{{"a@x", "", Archived}}, Stanza: []byte("<message/>")})
			if id == "" {
				id = LogID(tx, "a@x", seq)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return seq
	}
	first := put(s)
	path := filepath.Join(t.TempDir(), "backup.db")
	copyTo(t, s, path)
	for n := range 3 {
		old := path
		path = filepath.Join(t.TempDir(), fmt.Sprint(n, ".db"))
		if _, err := Restore(old, path); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path, Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		if seq := put(r); seq < uint64(n+1)<<40 {
			t.Errorf("sequence %d after restore %d", seq, n+1)
		}
		_ = r.View(func(tx *Tx) error {
			if seq, ok := ParseLogID(tx, "a@x", id); !ok || seq != first {
				t.Errorf("%d %v", seq, ok)
			}
			if st := LogStats(tx, "a@x"); st.Count != n+2 {
				t.Errorf("%+v", st)
			}
			return nil
		})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is owed to another server is kept for it, whatever becomes of its owners, until it has arrived, is forgotten, or is too old.
func TestRemoteEntries(t *testing.T) {
	for what, end := range map[string]func(tx *Tx){
		"arrived":   func(tx *Tx) { Progress.Put(tx, Key(ProgressSent, "x", "y"), 3) },
		"all there": func(tx *Tx) { Progress.Delete(tx, Key(ProgressSent, "x", "y")) },
		"forgotten": func(tx *Tx) { ForgetRemote(tx, 2); ForgetRemote(tx, 1); ForgetRemote(tx, 3) },
		"too old":   nil,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, Options{})
				left := func(change func(tx *Tx)) (n int) {
					if err := s.Update(func(tx *Tx) error {
						if change != nil {
							change(tx)
						}
						PurgeLog(tx, 1000)
						n = logTable.Count(tx) + logTail.Count(tx)
						_ = tx.bucket(string(ownedIndex)).ForEach(func(_, _ []byte) error { n++; return nil })
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					return n
				}
				if n := left(func(tx *Tx) {
					Progress.Put(tx, Key(ProgressSent, "x", "y"), 0)
					for i := range tailMost {
						AppendLog(tx, &Entry{Remote: i < 3, Owners: []Owner{{"a@x", "b@y", Archived}}})
					}
					ClearAccount(tx, "a@x")
				}); n != 3+1 {
					t.Errorf("%d records, expected those of the 3 that the other server is to get", n)
				}
				if end == nil {
					time.Sleep(RemoteMost + time.Second)
				}
				if n := left(end); n != 0 {
					t.Errorf("%d records are left", n)
				}
			})
		})
	}
}

func FuzzEntry(f *testing.F) {
	e := Entry{At: time.UnixMilli(1700000000000).UTC(), Remote: true, Stanza: []byte("<message/>"), Owners: []Owner{{"a@x", "b@y", 3}, {"b@y", "a@x", 5}}}
	raw, _ := e.MarshalBinary()
	f.Add(raw)
	f.Add([]byte{0, 1, 1, 7, 1, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e, again Entry
		if e.UnmarshalBinary(raw) != nil {
			return
		}
		out, err := e.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalBinary(out); err != nil || !cmp.Equal(e, again, cmp.Comparer(bytes.Equal)) {
			t.Errorf("%v\n%+v\n%+v", err, e, again)
		}
	})
}

func FuzzChunk(f *testing.F) {
	f.Add(uint64(5), encodeChunk(5, []posting{{seq: 5, role: 1, size: 300}, {seq: 900, role: 7}}))
	f.Fuzz(func(t *testing.T, base uint64, raw []byte) {
		ps, err := decodeChunk(nil, base, raw)
		if err != nil {
			return
		}
		again, err := decodeChunk(nil, base, encodeChunk(base, ps))
		if err != nil || !slices.Equal(ps, again) {
			t.Errorf("%v\n%v\n%v", err, ps, again)
		}
	})
}
