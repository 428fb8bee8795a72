package box

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
)

// A box that begins with a backup serves with the configuration that came along, and with the files that it named, from its folder.
func TestFirstStartBringsTheConfiguration(t *testing.T) {
	old := t.TempDir()
	extra := filepath.Join(old, "extra.pem")
	file := filepath.Join(old, "pibox.toml")
	const listeners = "[c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n[s2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n"
	if err := os.WriteFile(file, fmt.Appendf(nil, "domains = [\"home.example\", \"second.example\"]\n%strust = [\"extra.pem\"]\n", listeners), 0o600); err != nil {
		t.Fatal(err)
	}
	authority := aBoxOnce(t, filepath.Join(old, "data"), func(cfg *config.Config) { cfg.Domains = append(cfg.Domains, "second.example") })
	if err := os.WriteFile(extra, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	usb := t.TempDir()
	backedUpTo(t, filepath.Join(old, "data"), file, filepath.Join(usb, firstBackup))
	if err := os.Remove(extra); err != nil { // the old box is gone
		t.Fatal(err)
	}

	dir := t.TempDir()
	fresh := filepath.Join(dir, "data")
	d := start(t, fresh, ConfigSource{
		File: func() string { return "" },
		Load: func() (config.Config, error) {
			cfg, problems := config.Load(filepath.Join(fresh, configName))
			cfg.DataDir = fresh
			return cfg, problems.Err()
		},
	}, func(cfg *config.Config) { cfg.Backup.RestoreFrom = []string{filepath.Join(dir, "none"), usb} })
	s := d.awaitServing(t)
	if fmt.Sprint(s.Domains) != "[home.example second.example]" || s.Users != 1 || !s.Held {
		t.Errorf("%+v", s)
	}
	if list := d.daemon.config().S2S.Trust; len(list) != 1 || list[0] != filepath.Join(fresh, namedFolder, "000000") {
		t.Errorf("it trusts %v", list)
	}
	if now, err := os.ReadFile(filepath.Join(fresh, tlsFolder, "authority.pem")); err != nil || !bytes.Equal(now, authority) {
		t.Errorf("another authority, %v", err)
	}
}

// started is a daemon without more around it than it needs.
type started struct {
	daemon *Daemon
	client *admin.Client
	stop   func()
}

func start(t *testing.T, dir string, source ConfigSource, edit func(*config.Config)) started {
	t.Helper()
	short, err := os.MkdirTemp("", "box")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir, cfg.Domains = dir, []string{"home.example"}
	cfg.Admin.Socket, cfg.Health.LEDDir, cfg.Store.Reserve = filepath.Join(short, "admin.sock"), short, 1
	cfg.C2S.Listen, cfg.C2S.ListenTLS = []string{"127.0.0.1:0"}, []string{}
	cfg.S2S.Listen, cfg.S2S.ListenTLS = []string{"127.0.0.1:0"}, []string{}
	if edit != nil {
		edit(&cfg)
	}
	log := &lockedBuffer{}
	d := NewDaemon(cfg, "test", slog.New(slog.NewTextHandler(log, nil)), io.Discard)
	d.SetSource(source)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Serve(ctx)
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(func() {
		stop()
		_ = os.RemoveAll(short)
		if t.Failed() {
			t.Log(log)
		}
	})
	return started{d, admin.NewClient(cfg.Admin.Socket), stop}
}

func (s started) awaitServing(t *testing.T) (status admin.StatusResponse) {
	t.Helper()
	for late := time.Now().Add(patience); len(status.Listeners) == 0; {
		status, _ = s.client.Status(t.Context(), admin.StatusRequest{})
		if time.Now().After(late) || !tick(t.Context(), 5*time.Millisecond) {
			t.Fatalf("it does not serve: %s", strings.Join(status.Reasons, "; "))
		}
	}
	return status
}

// aBoxOnce makes a box that ran once, and returns its authority.
func aBoxOnce(t *testing.T, dir string, edit func(*config.Config)) []byte {
	t.Helper()
	d := start(t, dir, ConfigSource{}, edit)
	d.awaitServing(t)
	d.stop()
	raw, err := os.ReadFile(filepath.Join(dir, tlsFolder, "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func backedUpTo(t *testing.T, dir, file, path string) {
	t.Helper()
	d := start(t, dir, ConfigSource{File: func() string { return file }}, func(cfg *config.Config) {
		loaded, problems := config.Load(file)
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		cfg.Domains, cfg.S2S.Trust = loaded.Domains, loaded.S2S.Trust
	})
	d.awaitServing(t)
	defer d.stop()
	var out bytes.Buffer
	seal, err := backup.NewSeal(&out, backup.Lock{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.client.Backup(t.Context(), admin.BackupRequest{}, seal); err != nil {
		t.Fatal(err)
	}
	if err := seal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
