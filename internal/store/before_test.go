package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// oldFile is a store of the schema before, with a setting.
func oldFile(t *testing.T, path string) {
	t.Helper()
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Update(func(tx *Tx) error { Settings.Put(tx, "x", []byte("1")); return nil }), s.Close()); err != nil {
		t.Fatal(err)
	}
	setSchema(t, path, len(migrations)-1)
}

func setSchema(t *testing.T, path string, n int) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(b *bolt.Tx) error {
		return b.Bucket([]byte(metaTable.name)).Put([]byte("schema"), []byte{byte('0' + n)})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func schemaIn(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(b *bolt.Tx) (err error) { n, err = schemaOf(b); return err })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMigrationKeepsTheFileAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	oldFile(t, path)
	copied := beforePath(path, len(migrations)-1)
	// What an earlier try left is older than the file, or half.
	for _, p := range []string{copied, copied + unfinished} {
		if err := os.WriteFile(p, []byte("stale"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(path, Options{Reserve: 1, WayBack: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(copied); err != nil {
		t.Error(err)
	}
	if n := schemaIn(t, copied); n != len(migrations)-1 {
		t.Errorf("the copy has schema %d", n)
	}
	if unserved, err := Unserved(path); err != nil || !unserved {
		t.Errorf("%t, %v", unserved, err)
	}
	if err := errors.Join(s.Close(), DropBefore(path)); err != nil {
		t.Fatal(err)
	}
	if unserved, err := Unserved(path); err != nil || unserved {
		t.Errorf("%t, %v", unserved, err)
	}
	if left, err := filepath.Glob(path + beforeMark + "*"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestMigrationWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	oldFile(t, path)
	full := func(string) (int64, error) { return 1000, nil }
	if _, err := Open(path, Options{Reserve: 1, WayBack: true, FreeSpace: full}); err == nil {
		t.Fatal("migrated without a way back")
	}
	if n := schemaIn(t, path); n != len(migrations)-1 {
		t.Errorf("schema %d", n)
	}
	s, err := Open(path, Options{Reserve: 1, FreeSpace: full}) // nothing is being tried: somebody installed this version
	if err != nil {
		t.Fatal(err)
	}
	if unserved, err := Unserved(path); err != nil || unserved {
		t.Errorf("%t, %v", unserved, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTakeBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	oldFile(t, path)
	setSchema(t, path, len(migrations)) // by the version that knows no more
	if err := os.Rename(path, beforePath(path, len(migrations))); err != nil {
		t.Fatal(err)
	}
	oldFile(t, path)
	setSchema(t, path, len(migrations)+1)
	if err := Check(path); !errors.Is(err, ErrNewer) {
		t.Errorf("%v", err)
	}
	if _, err := Open(path, Options{Reserve: 1}); !errors.Is(err, ErrNewer) {
		t.Errorf("%v", err)
	}
	if p := Before(path); p == "" || Check(p) != nil {
		t.Fatalf("%q", p)
	}
	if err := TakeBefore(path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if p := Before(path); p != "" {
		t.Errorf("%s is still there", p)
	}
}
