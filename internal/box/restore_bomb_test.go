package box

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
)

// A few kilobytes that become a database of any size are written no further than the disk has room for.
func TestDatabaseBomb(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=1")
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(aBackup(t)[:4096])
	for range 600 {
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	free, err := freeBytes(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store.Reserve = config.Bytes(free - 200<<20)
	_, err = Restore(t.Context(), cfg, Source{Reader: &packed, Name: "usb.db", Keys: &backup.Keys{}})
	var told *admin.Error
	if !errors.As(err, &told) || !strings.Contains(told.Message, "no room") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.DataDir, "*")); len(left) > 0 {
		t.Errorf("%v was left", left)
	}
}
