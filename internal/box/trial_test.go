package box

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/update"
)

// tried is a daemon of the card's system, in a folder.
func tried(t *testing.T, running string) (*Daemon, update.Place, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "trial") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := config.Default()
	cfg.Domains, cfg.DataDir, cfg.Admin.Socket, cfg.Health.LEDDir = []string{"home.example"}, filepath.Join(dir, "data"), filepath.Join(dir, "admin.sock"), filepath.Join(dir, "leds")
	cfg.C2S.Listen, cfg.C2S.ListenTLS, cfg.S2S.Listen, cfg.S2S.ListenTLS = []string{"127.0.0.1:0"}, nil, []string{"127.0.0.1:0"}, nil
	cfg.Store.Reserve = 1
	t.Setenv("NOTIFY_SOCKET", "")
	d := NewDaemon(cfg, "test", slog.New(slog.DiscardHandler), &lockedBuffer{})
	d.place = update.Place{
		Release: filepath.Join(dir, "os-release"), Keys: filepath.Join(dir, "keys"), Data: filepath.Join(dir, "update"), RunDir: filepath.Join(dir, "run"),
		Folders: []string{filepath.Join(dir, "stick")}, Request: filepath.Join(dir, "request.json"),
	}
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	put("os-release", "IMAGE_ID=pibox\nIMAGE_VERSION=v3\nPIBOX_RELEASE=3\n")
	if running != "" {
		put("run/running.json", running)
	}
	return d, d.place, func() { put("run/running.json", `{"slot":"b","trial":true,"confirmed":true}`) }
}

func (d *Daemon) goOn(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// until asks the daemon again and again.
func (d *Daemon) until(t *testing.T, what string, is func(admin.UpdateStatusResponse) bool) admin.UpdateStatusResponse {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		s, err := d.UpdateStatus(t.Context(), admin.UpdateStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if is(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: never; %+v", what, s)
		}
	}
}

// migrated makes a database that nobody was served from since it was migrated.
func migrated(t *testing.T, d *Daemon) (copied string) {
	t.Helper()
	path := StorePath(d.cfg)
	s, err := store.Open(path, store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copied = path + ".schema-2"
	if err := os.Link(path, copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

func TestAMigratedBoxServesOnlyAfterItsConfirmation(t *testing.T) {
	d, _, confirm := tried(t, `{"slot":"b","trial":true}`)
	copied := migrated(t, d)
	d.goOn(t)
	s := d.until(t, "waits", func(s admin.UpdateStatusResponse) bool { return s.Waits })
	if !s.Image || !s.Trial || s.Slot != "b" || s.Version != "v3" {
		t.Errorf("%+v", s)
	}
	if st, err := d.Status(t.Context(), admin.StatusRequest{}); err != nil || Serves(st.State) || d.running() != nil || !isThere(copied) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := d.UpdateStart(t.Context(), admin.UpdateStartRequest{From: "http://127.0.0.1/"}); err == nil {
		t.Error("another update may start meanwhile")
	}
	confirm()
	d.until(t, "serves", func(s admin.UpdateStatusResponse) bool { return !s.Waits && !s.Trial && d.running() != nil })
	if isThere(copied) {
		t.Error("it serves, and the way back is still there")
	}
}

func TestABoxThatIsNotTriedServesAtOnce(t *testing.T) {
	for _, running := range []string{"", `{"slot":"b"}`, `{"slot":"b","trial":true,"confirmed":true}`} {
		d, _, _ := tried(t, running)
		copied := migrated(t, d)
		d.goOn(t)
		d.until(t, "serves", func(admin.UpdateStatusResponse) bool { return d.running() != nil })
		if isThere(copied) {
			t.Error("it serves, and the way back is still there")
		}
	}
}

// Without a migration a system that is tried serves at once: the older one reads what it writes.
func TestATriedBoxServes(t *testing.T) {
	d, _, _ := tried(t, `{"slot":"b","trial":true}`)
	d.goOn(t)
	d.until(t, "serves", func(admin.UpdateStatusResponse) bool { return d.running() != nil })
}

func TestUpdatesOfAnotherSystem(t *testing.T) {
	d, p, _ := tried(t, "")
	if err := os.Remove(p.Release); err != nil {
		t.Fatal(err)
	}
	if s, err := d.UpdateStatus(t.Context(), admin.UpdateStatusRequest{}); err != nil || s.Image {
		t.Errorf("%+v, %v", s, err)
	}
	for name, call := range map[string]func() error{
		"check": func() error { _, err := d.UpdateCheck(t.Context(), admin.UpdateCheckRequest{From: "x"}); return err },
		"start": func() error { _, err := d.UpdateStart(t.Context(), admin.UpdateStartRequest{From: "x"}); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "not installed from the card image") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
