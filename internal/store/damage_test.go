package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A page that goes bad under a running box and shows only while bbolt commits: the store is out of use, the process lives.
func TestPanicInCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.db")
	failed := make(chan error, 1)
	s, err := Open(path, Options{Reserve: 1, OnFailure: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("key-%04d", i) }
	if err := s.Update(func(tx *Tx) error {
		for i := range 1000 {
			VCards.Put(tx, name(i), []byte(strings.Repeat("x", 100)))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	bad := zeroPage(t, path, name(500))
	err = s.Update(func(tx *Tx) error {
		for i := range 1000 { // what lies behind the bad page shrinks and is to be merged with it
			if i > bad+1 && i < bad+100 {
				VCards.Delete(tx, name(i))
			}
		}
		return nil
	})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("the operation: %v", err)
	}
	select {
	case err := <-failed:
		if !strings.Contains(err.Error(), "damaged") {
			t.Errorf("told: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	if err := s.View(func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a read: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// zeroPage wipes the page that holds a key, and gives the number of the last key in it.
func zeroPage(t *testing.T, path, key string) (last int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4096 * 2; at+4096 <= len(raw); at += 4096 {
		page := raw[at : at+4096]
		if raw[at+8] != 2 || !bytes.Contains(page, []byte(key)) { // 2: a leaf
			continue
		}
		for i := range 1000 {
			if bytes.Contains(page, fmt.Appendf(nil, "key-%04d", i)) {
				last = i
			}
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 4096), int64(at)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return last
}
