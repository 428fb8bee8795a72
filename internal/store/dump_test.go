package store

import (
	"bufio"
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// contents are all records and counters of a file.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	all := map[string]string{}
	if err := db.View(func(b *bolt.Tx) error {
		return b.ForEach(func(name []byte, table *bolt.Bucket) error {
			all[string(name)] = SeqKey(table.Sequence())
			return table.ForEach(func(k, v []byte) error {
				all[string(name)+"/"+string(k)] = string(v)
				return nil
			})
		})
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func dump(t *testing.T, s *Store) (chunks [][]byte) {
	t.Helper()
	if err := s.Snapshot(func(sn Snapshot) error {
		total := int64(0)
		err := sn.Dump(func(chunk []byte) error {
			chunks, total = append(chunks, bytes.Clone(chunk)), total+int64(len(chunk))
			return nil
		})
		if total > sn.Size() {
			t.Errorf("the dump has %d bytes, more than the %d that were told", total, sn.Size())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return chunks
}

func load(t *testing.T, path string, chunks [][]byte) {
	t.Helper()
	l, err := NewLoader(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := l.Load(bufio.NewReader(bytes.NewReader(c))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDumpAndLoad(t *testing.T) {
	for _, name := range []string{"schema1.db", "schema2.db"} {
		s := openCopy(t, name)
		big := bytes.Repeat([]byte("x"), 3<<20)
		if err := s.Update(func(tx *Tx) error {
			VCards.Put(tx, "big@x", big)
			for i := range 3000 {
				Private.Append(tx, PrivateXML{XML: big[:i]}, "many@x")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		chunks := dump(t, s)
		if len(chunks) < 4 {
			t.Errorf("%d chunks", len(chunks))
		}
		copied := filepath.Join(t.TempDir(), "new.db")
		load(t, copied, chunks)
		if err := Check(copied); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		want, have := contents(t, s.path), contents(t, copied)
		delete(want, "meta/closed") // by Close
		if len(have) != len(want) || len(have) < 3000 {
			t.Errorf("%d records of %d", len(have), len(want))
		}
		for k, v := range want {
			if have[k] != v {
				t.Errorf("%q differs", k)
			}
		}
	}
}

func TestAdopt(t *testing.T) {
	s := openCopy(t, "schema2.db")
	if err := s.Update(func(tx *Tx) error {
		Settings.Put(tx, SettingHandover, []byte("{}"))
		Settings.Put(tx, SettingEpoch, []byte(`"old"`))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	chunks := dump(t, s)
	for _, restored := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "new.db")
		load(t, path, chunks)
		sum, err := Adopt(path, restored)
		if err != nil || sum.Accounts != 2 || sum.Messages == 0 || len(sum.Domains) != 1 {
			t.Errorf("%+v %v", sum, err)
		}
		n, err := Open(path, Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		_ = n.View(func(tx *Tx) error {
			epoch, _ := Settings.Get(tx, SettingEpoch)
			if Held(tx) != restored || Settings.Has(tx, SettingHandover) || (string(epoch) == `"old"`) == restored {
				t.Errorf("restored %v: held %v, epoch %s", restored, Held(tx), epoch)
			}
			return nil
		})
		if err := n.Update(func(tx *Tx) error { SetHeld(tx, false); return nil }); err != nil {
			t.Fatal(err)
		}
		_ = n.View(func(tx *Tx) error {
			if Held(tx) {
				t.Error("still held")
			}
			return nil
		})
		_ = n.Close()
	}
}

// A hostile dump is damaged, or makes a file in which there is what it says; it takes no more memory than it has bytes.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("T\x04meta\x00R\x06schema\x012"))
	f.Add([]byte("R\x01a\x01b"))
	f.Add([]byte("T\xff\xff\xff\xff\x0f"))
	f.Add([]byte("T\x01a\x00R\x00\x01b"))
	f.Add([]byte("T\x01a\x00R\x01b\xff\xff\xff\x1f"))
	f.Fuzz(func(t *testing.T, chunk []byte) {
		path := filepath.Join(t.TempDir(), "new.db")
		l, err := NewLoader(path)
		if err != nil {
			t.Fatal(err)
		}
		err = l.Load(bytes.NewReader(chunk))
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		_ = Check(path) // must not panic
	})
}

// Copies of the database, as backups were at first, are restored whatever their schema.
func TestRestoreOfOldSchemas(t *testing.T) {
	for _, name := range []string{"schema1.db", "schema2.db"} {
		path := filepath.Join(t.TempDir(), "new.db")
		sum, err := Restore(filepath.Join("testdata", name), path)
		if err != nil || sum.Accounts != 2 || sum.Messages == 0 || len(sum.Domains) != 1 || sum.Domains[0] != "capulet.example" {
			t.Errorf("%s: %+v %v", name, sum, err)
		}
		s, err := Open(path, Options{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.View(func(tx *Tx) error {
			if !Held(tx) || !Accounts.Has(tx, "juliet@capulet.example") {
				t.Errorf("%s: held %v", name, Held(tx))
			}
			return nil
		})
		_ = s.Close()
	}
}
