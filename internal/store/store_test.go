package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func open(t testing.TB, opt Options) *Store {
	t.Helper()
	if opt.Reserve == 0 {
		opt.Reserve = 1
	}
	s, err := Open(filepath.Join(t.TempDir(), "pibox.db"), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// submit queues operations so that they fall into one batch: the committer is held inside the first.
func inOneBatch(s *Store, ops ...*Op) {
	held, release := make(chan struct{}), make(chan struct{})
	done := make(chan struct{}, len(ops)+1)
	s.Submit(&Op{Run: func(*Tx) error { close(held); <-release; return nil }, Done: func(error) { done <- struct{}{} }})
	<-held
	for _, op := range ops {
		then := op.Done
		op.Done = func(err error) {
			if then != nil {
				then(err)
			}
			done <- struct{}{}
		}
		s.Submit(op)
	}
	close(release)
	for range len(ops) + 1 {
		<-done
	}
}

func TestAFailedOperationTakesNothingWithIt(t *testing.T) {
	s := open(t, Options{})
	var said []string
	say := func(tx *Tx, what string) { tx.OnCommit(func() { said = append(said, what) }) }
	var errs [4]error
	op := func(i int, run func(*Tx) error) *Op {
		return &Op{Run: run, Done: func(err error) { errs[i] = err }}
	}
	inOneBatch(s,
		op(0, func(tx *Tx) error { Blocks.Put(tx, "a", Block{}); say(tx, "a"); return nil }),
		op(1, func(tx *Tx) error { Blocks.Put(tx, "b", Block{}); say(tx, "b"); return errors.New("refused") }),
		op(2, func(tx *Tx) error { Blocks.Put(tx, "c", Block{}); say(tx, "c"); panic("a fault") }),
		op(3, func(tx *Tx) error { Blocks.Put(tx, "d", Block{}); say(tx, "d"); return nil }),
	)
	if errs[0] != nil || errs[1] == nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("errors: %v", errs)
	}
	if !slices.Equal(said, []string{"a", "d"}) {
		t.Errorf("effects: %v", said)
	}
	var keys []string
	_ = s.View(func(tx *Tx) error {
		for k := range Blocks.All(tx) {
			keys = append(keys, k)
		}
		return nil
	})
	if !slices.Equal(keys, []string{"a", "d"}) {
		t.Errorf("stored: %v", keys)
	}
}

func TestEffectsSeeTheCommit(t *testing.T) {
	s := open(t, Options{})
	visible := false
	if err := s.Update(func(tx *Tx) error {
		Blocks.Put(tx, "a", Block{})
		tx.OnCommit(func() {
			_ = s.View(func(tx *Tx) error { visible = Blocks.Has(tx, "a"); return nil })
		})
		return nil
	}); err != nil || !visible {
		t.Errorf("err %v, visible %v", err, visible)
	}
}

func TestTheFirstFailureSticks(t *testing.T) {
	s := open(t, Options{})
	if err := s.Update(func(tx *Tx) error { tx.put(Roster.name, Key("a", "b"), []byte("no json")); return nil }); err != nil {
		t.Fatal(err)
	}
	err := s.Update(func(tx *Tx) error {
		Roster.Get(tx, Key("a", "b"))
		Blocks.Put(tx, "x", Block{}) // does nothing any more
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "roster") {
		t.Errorf("error %v", err)
	}
	if err := s.View(func(tx *Tx) error {
		if Blocks.Has(tx, "x") {
			t.Error("an operation that failed has written")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestNothingIsWrittenForNothing(t *testing.T) {
	s := open(t, Options{})
	put := func(tx *Tx) error { Blocks.Put(tx, "a", Block{}); return nil }
	if err := s.Update(put); err != nil {
		t.Fatal(err)
	}
	writes := func() int64 { st := s.db.Stats(); return st.TxStats.GetWrite() }
	before := writes()
	for _, run := range []func(*Tx) error{put, func(*Tx) error { return nil }} {
		if err := s.Update(run); err != nil {
			t.Fatal(err)
		}
	}
	if after := writes(); after != before {
		t.Errorf("%d writes for nothing", after-before)
	}
}

func TestIterationWhileWriting(t *testing.T) {
	s := open(t, Options{})
	if err := s.Update(func(tx *Tx) error {
		for range 5 {
			Outbox.Append(tx, OutboxEntry{Stanza: []byte("x")}, "romeo@a")
		}
		Outbox.Append(tx, OutboxEntry{}, "romeo@ab") // a neighbour
		n := 0
		for k := range Outbox.All(tx, "romeo@a") {
			if n++; n%2 == 1 {
				Outbox.Delete(tx, k)
			}
		}
		if n != 5 || Outbox.Count(tx, "romeo@a") != 2 || Outbox.Count(tx, "romeo@ab") != 1 {
			t.Errorf("visited %d, left %d and %d", n, Outbox.Count(tx, "romeo@a"), Outbox.Count(tx, "romeo@ab"))
		}
		Outbox.Clear(tx, "romeo@a")
		if Outbox.Count(tx, "romeo@a") != 0 || Outbox.Count(tx, "romeo@ab") != 1 {
			t.Error("Clear took the wrong records")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskRefusesBeforeItIsWritten(t *testing.T) {
	free := int64(1 << 30)
	s := open(t, Options{Reserve: 1 << 20, FreeSpace: func(string) (int64, error) { return free, nil }})
	put := func(key string) error {
		return s.Update(func(tx *Tx) error { Blocks.Put(tx, key, Block{}); return nil })
	}
	if err := put("a"); err != nil {
		t.Fatal(err)
	}
	free = 1000
	if err := put("b"); !errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
	if err := s.View(func(tx *Tx) error {
		if !Blocks.Has(tx, "a") || Blocks.Has(tx, "b") {
			t.Error("the old data changed")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	free = 1 << 30
	if err := put("b"); err != nil {
		t.Errorf("space again: %v", err)
	}
}

// A failed sync or write: nothing is acknowledged until the file was opened again.
func TestAFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	failed := make(chan error, 10)
	s, err := Open(path, Options{Reserve: 1, OnFailure: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		return s.Update(func(tx *Tx) error { Outbox.Append(tx, OutboxEntry{}, "a"); return nil })
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	makeReadOnly(t, path)
	if err := put(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
	if <-failed == nil {
		t.Error("no reason was given")
	}
	if err := put(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("still: %v", err)
	}
	if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reading: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if s, err = Open(path, Options{Reserve: 1}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := put(); err != nil {
		t.Errorf("opened again: %v", err)
	}
	_ = s.View(func(tx *Tx) error {
		if n := Outbox.Count(tx, "a"); n != 2 {
			t.Errorf("%d records, expected the two that were acknowledged", n)
		}
		return nil
	})
}

// makeReadOnly lets every further write to an open file fail, as a card does that has gone read-only.
func makeReadOnly(t *testing.T, path string) {
	ro, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ro.Close() }()
	links, _ := os.ReadDir("/proc/self/fd")
	n := 0
	for _, l := range links {
		fd, _ := strconv.Atoi(l.Name())
		if to, _ := os.Readlink("/proc/self/fd/" + l.Name()); to == path && fd != int(ro.Fd()) {
			if err := syscall.Dup3(int(ro.Fd()), fd, 0); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	if n == 0 {
		t.Fatal("the file's descriptor was not found")
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("cats")); return err })
	_ = db.Close()

	newer := filepath.Join(dir, "newer.db")
	if err := create(newer); err != nil {
		t.Fatal(err)
	}
	db, _ = bolt.Open(newer, 0o600, nil)
	_ = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("99")) })
	_ = db.Close()

	damaged := filepath.Join(dir, "damaged.db")
	if err := create(damaged); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(damaged)
	for i := range raw[:8192] {
		raw[i] ^= 0x5a
	}
	_ = os.WriteFile(damaged, raw, 0o600)

	text := filepath.Join(dir, "text.db")
	_ = os.WriteFile(text, []byte(strings.Repeat("no database at all\n", 2000)), 0o600)
	empty := filepath.Join(dir, "empty.db")
	_ = os.WriteFile(empty, nil, 0o600)

	for path, want := range map[string]string{
		foreign: "not a pibox store", newer: "newer pibox", damaged: "left as it is", text: "left as it is", empty: "left as it is",
	} {
		before, _ := os.ReadFile(path)
		for name, try := range map[string]func() error{
			"Open":  func() error { _, err := Open(path, Options{}); return err },
			"Check": func() error { return Check(path) },
		} {
			if err := try(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: error %v, expected %q", name, filepath.Base(path), err, want)
			}
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", filepath.Base(path))
		}
	}
}

// copyTo copies the file of a store that goes on, as earlier versions made backups.
func copyTo(t *testing.T, s *Store, path string) {
	t.Helper()
	if err := s.db.View(func(b *bolt.Tx) error { return b.CopyFile(path, 0o600) }); err != nil {
		t.Fatal(err)
	}
}

func TestBackupAndRestore(t *testing.T) {
	s := open(t, Options{})
	put := func(key string) {
		if err := s.Update(func(tx *Tx) error { Blocks.Put(tx, key, Block{}); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	dir := t.TempDir()
	backup := filepath.Join(dir, "backup.db")
	copyTo(t, s, backup)
	put("b")
	to := filepath.Join(dir, "new", "pibox.db")
	if _, err := Restore(backup, to); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(backup, to); !errors.Is(err, os.ErrExist) {
		t.Errorf("a store was overwritten: %v", err)
	}
	r, err := Open(to, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	_ = r.View(func(tx *Tx) error {
		if !Blocks.Has(tx, "a") || Blocks.Has(tx, "b") {
			t.Error("the backup does not hold what was there when it was made")
		}
		if !Settings.Has(tx, SettingEpoch) {
			t.Error("a restored store has the old epoch: clients would trust the roster versions that they know")
		}
		return nil
	})
}

func TestASecondOpenerIsTold(t *testing.T) {
	s := open(t, Options{})
	if _, err := Open(s.path, Options{}); err == nil || !strings.Contains(err.Error(), "another pibox") {
		t.Errorf("error %v", err)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	if _, err := Open("/proc/pibox/pibox.db", Options{}); err == nil {
		t.Error("a store in /proc")
	}
}
