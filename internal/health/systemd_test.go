package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// notifySocket is systemd's end of NOTIFY_SOCKET. It is read without waiting, because a goroutine that waits for a
// socket would hold the bubble's clock.
type notifySocket int

func newNotifySocket(t *testing.T) notifySocket {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "120000000")
	t.Setenv("WATCHDOG_PID", "")
	return notifySocket(fd)
}

// read returns what has been sent since the last time, one notification a line, its variables parted by a bar.
func (fd notifySocket) read(t *testing.T) string {
	t.Helper()
	var all []string
	b := make([]byte, 4096)
	for {
		n, _, err := syscall.Recvfrom(int(fd), b, 0)
		if errors.Is(err, syscall.EAGAIN) {
			return strings.Join(all, "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.ReplaceAll(string(b[:n]), "\n", "|"))
	}
}

func (fd notifySocket) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := fd.read(t); got != strings.Join(want, "\n") {
		t.Errorf("systemd was told:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestSystemd(t *testing.T) {
	socket := newNotifySocket(t)
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		sd := NewSystemd(h, quiet())
		tr := &trips{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { sd.Run(ctx); close(done) }()
		go NewPulse(h, tr.trip, sd.Interval(), sd.Alive, quiet()).Run(ctx)

		socket.want(t, "STATUS=starting")
		sd.Extend(90 * time.Second)
		socket.want(t, "EXTEND_TIMEOUT_USEC=90000000")
		pass(time.Minute)
		socket.want(t)

		h.Ready()
		synctest.Wait()
		if got := socket.read(t); got != "READY=1|STATUS=well\nWATCHDOG=1" && got != "WATCHDOG=1\nREADY=1|STATUS=well" {
			t.Errorf("systemd was told at ready:\n%s", got)
		}
		pass(41 * time.Second)
		socket.want(t, "WATCHDOG=1", "WATCHDOG=1")

		h.Set(Fact{"cert", Degraded, "The certificate ends in 3 days."})
		socket.want(t, "STATUS=degraded: The certificate ends in 3 days.")
		h.Clear("cert")
		socket.want(t, "STATUS=well")

		// The committer is held up: words, and no WATCHDOG any more.
		held := tr.hold()
		pass(19*time.Second + slowAfter)
		socket.want(t, "STATUS=degraded: The box answers slowly: its SD card or disk may be busy or wearing out.")
		pass(stuckAfter)
		if got := socket.read(t); !strings.HasPrefix(got, "STATUS=failing: The box does not answer any more") || strings.Contains(got, "\n") {
			t.Errorf("systemd was told of a stuck box:\n%s", got)
		}
		pass(time.Hour)
		socket.want(t)

		// It comes back before systemd acted.
		tr.end(nil)
		held <- nil
		synctest.Wait()
		if got := socket.read(t); !strings.Contains(got, "WATCHDOG=1") || !strings.Contains(got, "STATUS=well") || strings.Contains(got, "READY") {
			t.Errorf("systemd was told of the recovery:\n%s", got)
		}

		// An unusable store: failing, and alive.
		tr.end(ErrStoreUnusable)
		h.Set(Fact{"store", Failing, "The disk is full."})
		socket.want(t, "STATUS=failing: The disk is full.")
		pass(sd.Interval())
		socket.want(t, "WATCHDOG=1")

		h.Stopping()
		socket.want(t, "STOPPING=1|STATUS=stopping: The disk is full.")
		cancel()
		<-done
		socket.want(t)
	})
}

// endsWith is a context that ends together with what f does, in the moment it is looked at.
type endsWith struct {
	context.Context
	f func()
}

func (c endsWith) Done() <-chan struct{} {
	c.f()
	ended := make(chan struct{})
	close(ended)
	return ended
}

func TestSystemdHearsTheLastWord(t *testing.T) {
	socket := newNotifySocket(t)
	for range 50 { // either may be seen first
		h := New(time.Now, "1", quiet())
		h.Ready()
		NewSystemd(h, quiet()).Run(endsWith{t.Context(), h.Stopping})
		if got, want := socket.read(t), "READY=1|STATUS=well\nSTOPPING=1|STATUS=stopping"; got != want {
			t.Fatalf("systemd was told:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestSystemdIsNotToldReadyWhenAlreadyStopping(t *testing.T) {
	socket := newNotifySocket(t)
	h := New(time.Now, "1", quiet())
	h.Ready()
	h.Stopping()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	NewSystemd(h, quiet()).Run(ctx)
	if got, want := socket.read(t), "STOPPING=1|STATUS=stopping"; got != want {
		t.Errorf("systemd was told %q, want %q", got, want)
	}
}

func TestSystemdReadyInFailing(t *testing.T) {
	socket := newNotifySocket(t)
	h := New(time.Now, "1", quiet())
	h.Set(Fact{"store", Failing, "The database file is of a newer pibox."})
	h.Ready()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	NewSystemd(h, quiet()).Run(ctx)
	if got, want := socket.read(t), "READY=1|STATUS=failing: The database file is of a newer pibox."; got != want {
		t.Errorf("systemd was told %q, want %q", got, want)
	}
}

func TestWithoutSystemd(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	run := func() {
		h := New(time.Now, "1", quiet())
		sd := NewSystemd(h, log)
		sd.Alive()
		sd.Extend(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		sd.Run(ctx)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		t.Setenv(name, "")
	}
	run()
	if out.Len() > 0 {
		t.Errorf("log without systemd:\n%s", out.String())
	}

	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", "")
	run()
	if got := out.String(); strings.Count(got, "said once") != 1 || strings.Count(got, "WatchdogSec is too short") != 1 {
		t.Errorf("log with nobody at the socket and a short watchdog:\n%s", got)
	}

	out.Reset()
	t.Setenv("WATCHDOG_USEC", "soon")
	if sd := NewSystemd(New(time.Now, "1", quiet()), log); sd.watchdog != 0 || !strings.Contains(out.String(), "not understood") {
		t.Errorf("a watchdog of %v from nonsense; log:\n%s", sd.watchdog, out.String())
	}

	// Another process is the one watched.
	t.Setenv("WATCHDOG_USEC", "120000000")
	t.Setenv("WATCHDOG_PID", "1")
	if os.Getpid() != 1 {
		if sd := NewSystemd(New(time.Now, "1", quiet()), log); sd.watchdog != 0 {
			t.Errorf("feeds the watchdog of another process")
		}
	}
}
