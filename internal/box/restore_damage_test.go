package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
	"pibox/internal/store"
)

// A damaged backup never ends the command, never changes the database that is there, and leaves nothing behind.
func TestRestoreOfDamagedBackups(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=1") // else every child takes a second under -race
	good := aBackup(t)
	cases := map[string][]byte{"no byte": {}, "text": []byte("This is no database.")}
	for size := 1; size < len(good); size += len(good)/20 + 1 {
		cases[fmt.Sprintf("cut to %d bytes", size)] = good[:size]
	}
	for at := 3; at < len(good); at += len(good)/60 + 1 {
		flipped := bytes.Clone(good)
		flipped[at] ^= 0xff
		cases[fmt.Sprintf("byte %d", at)] = flipped
	}
	for page := range len(good) / 4096 { // the heads of the pages, where it hurts
		flipped := bytes.Clone(good)
		for i := range 16 {
			flipped[page*4096+8+i] ^= 0x5a
		}
		cases[fmt.Sprintf("page %d", page)] = flipped
	}
	refused := 0
	for name, data := range cases {
		cfg := config.Default()
		cfg.Store.Reserve = 1
		cfg.DataDir = t.TempDir()
		there := StorePath(cfg)
		if err := os.WriteFile(there, good, 0o600); err != nil {
			t.Fatal(err)
		}
		done, err := Restore(t.Context(), cfg, Source{Reader: bytes.NewReader(data), Name: "usb.db", Keys: &backup.Keys{}, Replace: true})
		left, _ := filepath.Glob(filepath.Join(cfg.DataDir, RestorePrefix+"*"))
		if len(left) > 0 {
			t.Errorf("%s: %v was left", name, left)
		}
		if err == nil { // what was hit means nothing, or is within a record
			if err := CheckStore(context.Background(), done.Path); err != nil {
				t.Errorf("%s: restored what can not be used: %v", name, err)
			}
			continue
		}
		refused++
		var told *admin.Error
		if !errors.As(err, &told) || told.Message != "usb.db is damaged or incomplete; nothing was changed" {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(there); !bytes.Equal(now, good) {
			t.Errorf("%s: the database was changed", name)
		}
	}
	if refused < 30 {
		t.Errorf("only %d of %d damaged backups were refused", refused, len(cases))
	}
}

// aBackup is one of more than one page in every kind of table.
func aBackup(t *testing.T) []byte {
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "one.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *store.Tx) error {
		for i := range 200 {
			name := fmt.Sprintf("user%d@home.example", i)
			store.Accounts.Put(tx, name, store.Account{})
			store.Roster.Put(tx, store.Key(name, "romeo@home.example"), store.RosterItem{Sub: store.SubBoth})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	data, err := os.ReadFile(filepath.Join(dir, "one.db"))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0) // the rest of the file is empty
	if err := s.Snapshot(func(sn store.Snapshot) error { size = sn.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return data[:size]
}
