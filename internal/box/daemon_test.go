package box

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
	"pibox/internal/store"
)

// TestMain lets the code under test run this binary as the program that reads a database in a child process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && IsChild(os.Args[1]) {
		os.Exit(Child(os.Args[1:], os.Stdout, os.Stderr))
	}
	if len(os.Args) == 4 && os.Args[3] == "serve" { // for testbox
		os.Exit(serveProcess(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == fetchWord {
		os.Exit(fetchProcess(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// patience bounds every wait for something that must come; nothing waits for it when all is well.
const patience = 30 * time.Second

// daemon is a running one, with the socket on which systemd would listen.
type daemon struct {
	t      *testing.T
	daemon *Daemon
	cfg    config.Config
	notify chan string
	out    *lockedBuffer
	log    *lockedBuffer
	stop   func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serve(t *testing.T, dir string, watchdog time.Duration, edit func(*config.Config)) *daemon {
	t.Helper()
	return servePrepared(t, dir, watchdog, edit, func(*Daemon) {})
}

func servePrepared(t *testing.T, dir string, watchdog time.Duration, edit func(*config.Config), prepare func(*Daemon)) *daemon {
	t.Helper()
	short, err := os.MkdirTemp("", "box") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	cfg := config.Default()
	cfg.Domains = []string{"home.example"}
	cfg.DataDir = dir
	cfg.Admin.Socket = filepath.Join(short, "admin.sock")
	cfg.Health.LEDDir = filepath.Join(short, "no-leds")
	cfg.C2S.Listen, cfg.C2S.ListenTLS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	cfg.S2S.Listen, cfg.S2S.ListenTLS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	cfg.Store.Reserve = 1
	if edit != nil {
		edit(&cfg)
	}
	d := &daemon{t: t, cfg: cfg, notify: make(chan string, 1000), out: &lockedBuffer{}, log: &lockedBuffer{}}
	socket := filepath.Join(short, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(string(buf[:n]), "\n") {
				d.notify <- line
			}
		}
	}()
	t.Setenv("GORACE", "atexit_sleep_ms=1") // else every child takes a second under -race
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", fmt.Sprint(watchdog.Microseconds()))
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	d.daemon = NewDaemon(cfg, "test", slog.New(slog.NewTextHandler(d.log, nil)), d.out)
	d.daemon.pause = 10 * time.Millisecond
	prepare(d.daemon)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- d.daemon.Serve(ctx)
	}()
	d.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return fmt.Errorf("the daemon does not stop")
		}
	})
	t.Cleanup(func() {
		_ = d.stop()
		_ = conn.Close()
		if t.Failed() {
			t.Log(d.log)
		}
	})
	return d
}

// hears waits until systemd is told a line that begins so.
func (d *daemon) hears(prefix string) string {
	d.t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-d.notify:
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-late:
			d.t.Fatalf("systemd was not told %s", prefix)
		}
	}
}

func (d *daemon) client() *admin.Client { return admin.NewClient(d.cfg.Admin.Socket) }

func (d *daemon) status() admin.StatusResponse {
	d.t.Helper()
	s, err := d.client().Status(context.Background(), admin.StatusRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func TestAWholeLife(t *testing.T) {
	dir := t.TempDir()
	d := serve(t, dir, 3*time.Second, nil)
	d.hears("READY=1")
	d.hears("WATCHDOG=1")
	s := d.status()
	if s.State != "well" || len(s.Listeners) != 4 || s.Users != 1 || s.Store.Schema != store.Schema() || len(s.Reasons) > 0 {
		t.Errorf("status %+v", s)
	}
	if out := d.out.String(); !strings.Contains(out, "admin@home.example") || !strings.Contains(out, "password") {
		t.Errorf("the first administrator was told %q", out)
	}
	ctx := context.Background()
	if _, err := d.client().UserAdd(ctx, admin.UserAddRequest{User: "juliet", Password: "wherefore art thou"}); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if _, err := d.client().Backup(ctx, admin.BackupRequest{}, &copied); err != nil {
		t.Fatal(err)
	}
	if m, _, err := backup.Verify(&copied); err != nil || m.Accounts != 2 {
		t.Errorf("the backup: %+v, %v", m, err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d.hears("STOPPING=1")

	// again: nobody is told a password, everybody is there
	d = serve(t, dir, 3*time.Second, func(cfg *config.Config) { cfg.Domains = nil })
	d.hears("READY=1")
	s = d.status()
	if s.Users != 2 || d.out.String() != "" || len(s.Domains) != 1 || s.Domains[0] != "home.example" {
		t.Errorf("the second start: %+v, said %q", s, d.out)
	}
}

// The watchdog is fed only by a real round trip: a committer that is held up starves it.
func TestAStuckCommitterStarvesTheWatchdog(t *testing.T) {
	const watchdog = 200 * time.Millisecond
	d := serve(t, t.TempDir(), watchdog, nil)
	d.hears("READY=1")
	d.hears("WATCHDOG=1")
	release := make(chan struct{})
	d.daemon.running().box.Store.Submit(&store.Op{Run: func(*store.Tx) error { <-release; return nil }})
	for { // one may be on its way
		select {
		case line := <-d.notify:
			if line == "WATCHDOG=1" {
				continue
			}
		case <-time.After(5 * watchdog):
			close(release)
			d.hears("WATCHDOG=1")
			return
		}
	}
}

func TestADamagedStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, StoreFile)
	rubbish := bytes.Repeat([]byte("this was a database once\n"), 4000)
	if err := os.WriteFile(path, rubbish, 0o600); err != nil {
		t.Fatal(err)
	}
	d := serve(t, dir, 3*time.Second, nil)
	d.hears("READY=1") // systemd must not wait for a card that is broken
	d.hears("WATCHDOG=1")
	s := d.status()
	if s.State != "failing" || len(s.Listeners) != 0 || len(s.Reasons) != 1 || !strings.Contains(s.Reasons[0], "restore") {
		t.Errorf("status %+v", s)
	}
	if _, err := d.client().UserAdd(context.Background(), admin.UserAddRequest{User: "x", Password: "a password"}); err == nil {
		t.Error("an account without a store")
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, rubbish) {
		t.Error("the damaged file was changed")
	}
	// the person moves it away: the box goes on by itself
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	d.hears("STATUS=well")
	if s := d.status(); s.State != "well" || len(s.Listeners) != 4 {
		t.Errorf("status %+v", s)
	}
}

func TestPortsThatAreTaken(t *testing.T) {
	var taken [2]net.Listener
	for i := range taken {
		var err error
		if taken[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	d := serve(t, t.TempDir(), 3*time.Second, func(cfg *config.Config) {
		cfg.C2S.Listen, cfg.S2S.Listen = []string{taken[0].Addr().String()}, []string{taken[1].Addr().String()}
	})
	d.hears("READY=1")
	d.hears("WATCHDOG=1")
	want := []string{
		"port " + taken[0].Addr().String() + " (clients) is taken by another program: 'ss -ltnp' shows which; stop it or set c2s.listen",
		"port " + taken[1].Addr().String() + " (other servers) is taken by another program: 'ss -ltnp' shows which; stop it or set s2s.listen",
	}
	s := d.status()
	slices.Sort(s.Reasons)
	slices.Sort(want)
	if s.State != "failing" || !slices.Equal(s.Reasons, want) {
		t.Errorf("status %+v", s)
	}
	if !slices.Equal(s.Domains, []string{"home.example"}) {
		t.Errorf("domains %q", s.Domains)
	}
	// the first gets free: only the other is told
	_ = taken[0].Close()
	for len(d.status().Reasons) > 1 {
		d.hears("STATUS=failing")
	}
	if s := d.status(); len(s.Reasons) != 1 || !strings.Contains(s.Reasons[0], taken[1].Addr().String()) {
		t.Errorf("status %+v", s)
	}
	_ = taken[1].Close()
	d.hears("STATUS=well")
	if s := d.status(); len(s.Reasons) != 0 {
		t.Errorf("status %+v", s)
	}
	for _, line := range want {
		if n := strings.Count(d.log.String(), line); n != 1 {
			t.Errorf("%q is in the log %d times", line, n)
		}
	}
}
