package box

import (
	"errors"
	"strings"
	"testing"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
)

// While a restore or a transfer goes on, also where there is no database yet, no server begins beside it; and the other way round.
func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, dir, ConfigSource{}, nil)
	for len(d.daemon.reasons()) == 0 {
		tick(t.Context(), 1)
	}
	if why := d.daemon.reasons()[0]; !strings.Contains(why, "a restore or a transfer goes on") || isThere(StorePath(d.daemon.config())) {
		t.Error(why)
	}
	unlock()
	d.awaitServing(t)
	cfg := config.Default()
	cfg.DataDir = dir
	var told *admin.Error
	if _, err := Restore(t.Context(), cfg, Source{Reader: strings.NewReader(""), Keys: &backup.Keys{}, Replace: true}); !errors.As(err, &told) || told.Code != admin.CodeRunning {
		t.Error(err)
	}
	if _, err := Fetch(t.Context(), cfg, FetchRequest{Address: "127.0.0.1:1", Replace: true}); !errors.As(err, &told) || told.Code != admin.CodeRunning {
		t.Error(err)
	}
}
