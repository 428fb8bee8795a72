package box

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pibox/internal/config"
	"pibox/internal/store"
)

// What a power cut left is removed at the next start, and nothing else, and not while somebody works with the store.
func TestLeftovers(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=1") // else every child takes a second under -race
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	st, err := store.Open(StorePath(cfg), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	ours := []string{".pibox-1234567890.part", "backup-in-progress-17/pibox.db", "restore-4711/backup"}
	others := []string{".pibox-.part", ".pibox-my.part", ".pibox-1/x.part", "pibox-1.part", "restore-notes/how", "restore-1.txt", "pibox.db.before-20261122T120000Z"}
	for _, name := range slices.Concat(ours, others) {
		path := filepath.Join(cfg.DataDir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func(names []string, want bool) {
		t.Helper()
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(cfg.DataDir, name)); (err == nil) != want {
				t.Errorf("%s is there: %v", name, err == nil)
			}
		}
	}
	unlock, err := store.Lock(StorePath(cfg))
	if err != nil {
		t.Fatal(err)
	}
	removeLeftovers(cfg)
	there(ours, true)
	unlock()
	d := NewDaemon(cfg, "test", slog.New(slog.DiscardHandler), io.Discard)
	if err := d.tryStore(t.Context()); err != nil {
		t.Fatal(err)
	}
	there(ours, false)
	there(others, true)
}
