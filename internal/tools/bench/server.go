package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testbox"
	"pibox/internal/testclient"
)

const (
	domain   = "bench.example"
	password = "the same for everybody"
	users    = 200
)

func user(i int) string { return fmt.Sprintf("u%d", i%users) }

// server is one that is measured.
type server interface {
	name() string
	version(ctx context.Context) string
	// prepare makes the accounts, once.
	prepare(ctx context.Context) error
	// reset makes the data as prepare left it.
	reset() error
	launch() error
	pid() int
	ended() <-chan struct{}
	stop()
	// kill ends it at once, so that whoever waits for it goes on.
	kill()
	// folder is where its data is, and words the last that it said.
	folder() string
	words() string
	addr() string
	tls() *tls.Config
}

// login logs an account in, with the same work for every server: SCRAM-SHA-1, TLS 1.3, X25519, no session resumed.
func login(ctx context.Context, s server, i int, change ...func(*testclient.Config)) (*testclient.Client, error) {
	cfg := testclient.Config{
		Addr: s.addr(), Account: user(i) + "@" + domain, Password: password, Resource: fmt.Sprintf("r%d", i/users),
		Mechanism: "SCRAM-SHA-1", Salted: &salted,
	}
	cfg.TLS = s.tls()
	cfg.TLS.MinVersion = tls.VersionTLS13
	cfg.TLS.CurvePreferences = []tls.CurveID{tls.X25519} // Debian's Prosody knows nothing newer
	for _, f := range change {
		f(&cfg)
	}
	c, err := testclient.Dial(ctx, cfg)
	if err != nil && strings.Contains(err.Error(), "not-authorized") {
		// Prosody refuses the right password once in some ten thousand times. A second refusal is an error.
		fmt.Fprintf(os.Stderr, "%s: %v; once more\n", s.name(), err)
		c, err = testclient.Dial(ctx, cfg)
	}
	return c, err
}

// awaitLogin logs in as soon as the server is up.
func awaitLogin(ctx context.Context, s server, i int) (*testclient.Client, error) {
	for {
		c, err := login(ctx, s, i)
		if err == nil {
			return c, nil
		}
		select {
		case <-time.After(500 * time.Microsecond):
		case <-s.ended():
			return nil, fmt.Errorf("it ended by itself: %s", s.words())
		case <-ctx.Done():
			return nil, fmt.Errorf("it takes no login: %w: %s", err, s.words())
		}
	}
}

// piboxServer is ours.
type piboxServer struct {
	box      testbox.Box
	prepared string
	running  atomic.Int64 // process id; 0: none
}

func newPibox(binary, dir string) (*piboxServer, error) {
	host, err := testbox.FreeHost()
	if err != nil {
		return nil, err
	}
	return &piboxServer{prepared: filepath.Join(dir, "pibox-accounts"), box: testbox.Box{
		Binary: binary, Dir: filepath.Join(dir, "pibox"), Host: host, Domain: domain,
		Tables: map[string]string{
			// One client program stands for many clients.
			"c2s": "stanza_rate = 100000\nstanza_burst = 1000000\nbyte_rate = \"1GiB\"\nbyte_burst = \"1GiB\"\n" +
				"connections_per_address = 2000\nunauthenticated_per_address = 2000\n",
		},
	}}, nil
}

func (p *piboxServer) name() string { return pibox }

func (p *piboxServer) version(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, p.box.Binary, "version").Output()
	return strings.TrimSpace(string(out))
}

func (p *piboxServer) prepare(ctx context.Context) error {
	if err := os.RemoveAll(p.box.Dir); err != nil {
		return err
	}
	if err := p.box.Start(ctx); err != nil {
		return err
	}
	for i := range users {
		if _, err := p.box.Admin().UserAdd(ctx, admin.UserAddRequest{User: user(i), Password: password}); err != nil {
			return err
		}
	}
	p.box.Stop()
	if err := os.RemoveAll(p.prepared); err != nil {
		return err
	}
	return os.CopyFS(p.prepared, os.DirFS(p.data()))
}

func (p *piboxServer) data() string { return filepath.Join(p.box.Dir, "data") }

func (p *piboxServer) reset() error {
	if err := os.RemoveAll(p.data()); err != nil {
		return err
	}
	if err := os.CopyFS(p.data(), os.DirFS(p.prepared)); err != nil {
		return err
	}
	return copyPages(p.box.Store(), filepath.Join(p.prepared, filepath.Base(p.box.Store())))
}

// copyPages copies a file as bbolt writes it: page by page, with holes. The kernel keeps what was written in one piece in one piece, and counts all
// of that as written when a page of it is.
func copyPages(to, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	const page = 4096
	for at := 0; at < len(raw) && err == nil; at += page {
		if piece := raw[at:min(at+page, len(raw))]; bytes.ContainsFunc(piece, func(r rune) bool { return r != 0 }) {
			_, err = f.WriteAt(piece, int64(at))
		}
	}
	return errors.Join(err, f.Truncate(int64(len(raw))), f.Close())
}

func (p *piboxServer) launch() error {
	err := p.box.Launch()
	if err == nil {
		p.running.Store(int64(p.pid()))
	}
	return err
}

func (p *piboxServer) pid() int               { return p.box.PID() }
func (p *piboxServer) ended() <-chan struct{} { return p.box.Ended() }
func (p *piboxServer) folder() string         { return p.box.Dir }
func (p *piboxServer) addr() string           { return p.box.Addr() }

func (p *piboxServer) stop() {
	p.running.Store(0)
	p.box.Stop()
}

func (p *piboxServer) kill() {
	if pid := p.running.Load(); pid > 0 {
		_ = syscall.Kill(int(pid), syscall.SIGKILL)
	}
}

func (p *piboxServer) words() string {
	raw, _ := os.ReadFile(p.box.LogFile())
	return string(raw[max(0, len(raw)-1000):])
}

func (p *piboxServer) tls() *tls.Config {
	roots, err := p.box.Roots()
	if err != nil {
		panic(err) // prepare started it, so the file is there
	}
	return &tls.Config{RootCAs: roots}
}
