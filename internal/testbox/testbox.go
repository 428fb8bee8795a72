// Package testbox runs pibox as a process of its own on a loopback address, for the tools that try it from outside.
package testbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testclient"

	"golang.org/x/sys/unix"
)

// Box is one pibox. Its fields are set before Start.
type Box struct {
	Binary string
	Dir    string            // of everything it has; made if need be
	Host   string            // a loopback address of its own
	Domain string            // the main one
	More   []string          // further domains
	Config string            // more of the configuration file, whole tables that are not among those below
	Tables map[string]string // lines for tables that the configuration has anyway: c2s, s2s, log
	Salted *testclient.SaltCache

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	log  *os.File
}

// FreeHost finds a loopback address where nobody listens, so that runs do not meet.
func FreeHost() (string, error) {
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		ln, err := net.Listen("tcp", host+":5222")
		if err != nil {
			continue
		}
		return host, ln.Close()
	}
	return "", errors.New("no loopback address has port 5222 free; a Linux machine has 127.0.0.0/8")
}

// Addr is where clients come to.
func (b *Box) Addr() string { return b.Host + ":5222" }

// ServerAddr is where other servers come to.
func (b *Box) ServerAddr() string { return b.Host + ":5269" }

// Authority is the file of the box's certificate authority; it is there once the box was started.
func (b *Box) Authority() string { return filepath.Join(b.Dir, "data", "tls", "authority.pem") }

// Store is the database file.
func (b *Box) Store() string { return filepath.Join(b.Dir, "data", "pibox.db") }

// LogFile is where the box logs to.
func (b *Box) LogFile() string { return filepath.Join(b.Dir, "log") }

// ConfigFile is the box's configuration.
func (b *Box) ConfigFile() string { return filepath.Join(b.Dir, "pibox.toml") }

// Admin is the way in for administration.
func (b *Box) Admin() *admin.Client { return admin.NewClient(filepath.Join(b.Dir, "admin.sock")) }

// WriteConfig writes the configuration file, as Launch does.
func (b *Box) WriteConfig() error {
	tables := map[string]string{
		"log": "",
		"c2s": fmt.Sprintf("listen = [%q]\nlisten_tls = [%q]\n", b.Addr(), b.Host+":5223"),
		"s2s": fmt.Sprintf("listen = [%q]\nlisten_tls = []\n", b.ServerAddr()),
	}
	var w strings.Builder
	domains := fmt.Sprintf("%q", b.Domain)
	for _, d := range b.More {
		domains += fmt.Sprintf(", %q", d)
	}
	fmt.Fprintf(&w, "domains = [%s]\ndata_dir = %q\n", domains, filepath.Join(b.Dir, "data"))
	for _, name := range []string{"log", "c2s", "s2s"} {
		fmt.Fprintf(&w, "\n[%s]\n%s%s", name, tables[name], b.Tables[name])
	}
	fmt.Fprintf(&w, "\n[health]\nstatus_led = \"none\"\npower_led = \"none\"\n\n[admin]\nsocket = %q\n\n%s", filepath.Join(b.Dir, "admin.sock"), b.Config)
	return os.WriteFile(b.ConfigFile(), []byte(w.String()), 0o600)
}

// Launch starts the process without waiting until it serves.
func (b *Box) Launch() error {
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return err
	}
	if err := b.WriteConfig(); err != nil {
		return err
	}
	if b.log == nil {
		f, err := os.OpenFile(b.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		b.log = f
	}
	b.cmd = exec.Command(b.Binary, "--config", b.ConfigFile(), "serve")
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // a terminal's ^C is for the tool
	if err := startAsUnit(b.cmd); err != nil {
		return err
	}
	done := make(chan struct{})
	b.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(done)
	}(b.cmd)
	return nil
}

// startAsUnit starts a process with the timer slack that image/pibox.service gives it: a process has that of the thread that started it.
func startAsUnit(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const slack = 500 * time.Microsecond
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0); err != nil {
		return err
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // the thread's own again
	return cmd.Start()
}

// Start launches the box and waits until it serves.
func (b *Box) Start(ctx context.Context) error {
	if err := b.Launch(); err != nil {
		return err
	}
	return b.AwaitServing(ctx)
}

// AwaitServing waits until the box takes clients.
func (b *Box) AwaitServing(ctx context.Context) error {
	for {
		status, err := b.Admin().Status(ctx, admin.StatusRequest{})
		if err == nil && len(status.Listeners) > 0 {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-b.done:
			return fmt.Errorf("%s ended before it served: %s", b.Domain, b.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve (%v): %s", b.Domain, errors.Join(err, ctx.Err()), b.lastWords())
		}
	}
}

func (b *Box) lastWords() string {
	raw, err := os.ReadFile(b.LogFile())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// PID of the process.
func (b *Box) PID() int { return b.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (b *Box) Ended() <-chan struct{} { return b.done }

// Kill ends the process as a power cut would, but for what the kernel has in its cache, and waits for its end.
func (b *Box) Kill() { b.end(syscall.SIGKILL) }

// Stop ends the process cleanly.
func (b *Box) Stop() { b.end(syscall.SIGTERM) }

// Signal sends the process a signal and does not wait.
func (b *Box) Signal(sig syscall.Signal) {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(sig)
	}
}

func (b *Box) end(sig syscall.Signal) {
	if b.cmd == nil {
		return
	}
	b.Signal(sig)
	select {
	case <-b.done:
	case <-time.After(15 * time.Second): // it leaves within 5 s, or not at all
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	b.cmd = nil
}

// AddUser makes an account with the command, as a person would.
func (b *Box) AddUser(ctx context.Context, name, password string) error {
	cmd := exec.CommandContext(ctx, b.Binary, "--config", b.ConfigFile(), "user", "add", name, "--password-stdin")
	cmd.Stdin = strings.NewReader(password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("user add %s: %w: %s", name, err, out)
	}
	return nil
}

// Roots trusts the box's own authority.
func (b *Box) Roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(b.Authority())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", b.Authority())
	}
	return pool, nil
}

// ClientConfig is what a client of the box needs.
func (b *Box) ClientConfig(user, password, resource string) (testclient.Config, error) {
	roots, err := b.Roots()
	return testclient.Config{
		Addr: b.Addr(), Account: user + "@" + b.Domain, Password: password, Resource: resource,
		TLS: &tls.Config{RootCAs: roots}, Salted: b.Salted,
	}, err
}

// Login logs a client in.
func (b *Box) Login(ctx context.Context, user, password, resource string) (*testclient.Client, error) {
	cfg, err := b.ClientConfig(user, password, resource)
	if err != nil {
		return nil, err
	}
	return testclient.Dial(ctx, cfg)
}

// LoginSM logs a client in that uses stream management where the box offers it.
func (b *Box) LoginSM(ctx context.Context, user, password, resource string) (*testclient.Client, error) {
	cfg, err := b.ClientConfig(user, password, resource)
	if err != nil {
		return nil, err
	}
	cfg.SM = true
	return testclient.Dial(ctx, cfg)
}
