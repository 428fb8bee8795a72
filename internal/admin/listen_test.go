package admin

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "admin.sock")
	_, err := Listen(path, strconv.Itoa(os.Getegid())) // a number is no name
	wantError(t, err, CodeInvalid, "there is no group")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 || int(info.Sys().(*syscall.Stat_t).Gid) != os.Getegid() {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := os.Lstat(path + newSuffix); err == nil {
		t.Error("the temporary name is left")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
}

// Where others may write beside the socket, a link in the place of its lock leads to no file that would be cut.
func TestLockIsNoLink(t *testing.T) {
	dir := t.TempDir()
	path, precious := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, path+".lock"); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(path, ""); err == nil {
		t.Error("it is followed", l.Close())
	}
	if text, err := os.ReadFile(precious); string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestListenStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close() // as after kill -9
	wantError(t, dialError(t, path), CodeNotRunning, "pibox is not running here")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if !answers(t, path) {
		t.Error("nobody listens")
	}
}

func TestListenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	first, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Listen(path, "")
	wantError(t, err, CodeRunning, "another pibox (process "+strconv.Itoa(os.Getpid())+") is running already")
	if !answers(t, path) {
		t.Error("the second one broke the first one's socket")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	_ = first.Close()
	if !answers(t, path) {
		t.Error("closing the first one again took away the second one's socket")
	}
}

func TestListenNoSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(path, "")
	wantError(t, err, CodeInvalid, "is there and is no socket")
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("got %q, %v", data, err)
	}
	_, err = Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 108)), "")
	wantError(t, err, CodeInvalid, "the path of the admin socket has")
}

func TestNotRunning(t *testing.T) {
	wantError(t, dialError(t, filepath.Join(t.TempDir(), "admin.sock")), CodeNotRunning, "pibox is not running here")
	if answers(t, filepath.Join(t.TempDir(), "admin.sock")) {
		t.Error("running")
	}
}

func dialError(t *testing.T, path string) error {
	t.Helper()
	_, err := NewClient(path).Status(t.Context(), StatusRequest{})
	return err
}

// answers tells whether a daemon listens on the socket.
func answers(t *testing.T, path string) bool {
	conn, err := NewClient(path).dial(t.Context())
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// A daemon that was killed while it started a child: the child has the lock for a moment.
func TestListenAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := held.WriteString(strconv.Itoa(gone.Process.Pid) + "\n"); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = held.Close() })
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
