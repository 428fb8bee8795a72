package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pibox/internal/box"
	"pibox/internal/store"
)

// TestMain lets the scripts run this test binary as the command pibox; or, with
// $PIBOX_UNDER_TEST, a build of it, such as one for another processor behind
// its emulator.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && box.IsChild(os.Args[1]) {
		os.Exit(box.Child(os.Args[1:], os.Stdout, os.Stderr)) // what a test restores in this process is read in a child of it
	}
	testscript.Main(m, map[string]func(){
		"pibox": func() {
			if under := strings.Fields(os.Getenv("PIBOX_UNDER_TEST")); len(under) > 0 {
				err := syscall.Exec(under[0], append(under, os.Args[1:]...), os.Environ())
				panic(err)
			}
			if os.Getenv("PIBOX_TEST") == "box" {
				os.Exit(run(wired{}, 10)) // little work: under -race it takes ten times as long
			}
			os.Exit(run(newFakeBox(), 10))
		},
	})
}

// TestScripts tests what the commands do themselves, around a server that
// fails on demand.
func TestScripts(t *testing.T) { runScripts(t, "script", "domains = [\"home.example\"]\n") }

// TestBox tests the whole program.
func TestBox(t *testing.T) {
	t.Setenv("PIBOX_TEST", "box")
	runScripts(t, "box", `domains = ["home.example"]
[c2s]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
[s2s]
listen = ["127.0.0.1:0"]
listen_tls = ["127.0.0.1:0"]
[health]
led_dir = "leds"
[store]
reserve = "1MiB"
`)
}

func runScripts(t *testing.T, dir, configuration string) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", dir),
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// No file, folder or socket of the person who runs the tests.
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "none"))
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "share"))
			e.Setenv("STATE_DIRECTORY", filepath.Join(e.WorkDir, "data"))
			e.Setenv("RUNTIME_DIRECTORY", filepath.Join(e.WorkDir, "run"))
			e.Setenv("PIBOX_CONFIG", filepath.Join(e.WorkDir, "pibox.toml"))
			e.Setenv("PIBOX_UNDER_TEST", os.Getenv("PIBOX_UNDER_TEST"))
			e.Setenv("PIBOX_TEST", os.Getenv("PIBOX_TEST"))
			e.Values[running{}] = new(*server)
			e.Setenv("GOARCH", runtime.GOARCH)
			e.Setenv("GORACE", "atexit_sleep_ms=1") // else every command takes a second under -race
			return os.WriteFile(filepath.Join(e.WorkDir, "pibox.toml"), []byte(configuration), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":  cmdServe,
			"halt":   cmdStop,
			"exits":  cmdExits,
			"denied": cmdDenied,
			"mode":   cmdMode,
			"store":  cmdStore,
			"looks":  cmdLooks,
			"sized":  cmdSized,
		},
	})
}

// server is a 'pibox serve' that a script started.
type server struct {
	cmd     *exec.Cmd
	log     *os.File
	stopped bool
}

// cmdServe starts 'pibox serve' with the given arguments, waits until it says
// READY=1 as systemd does, and stops it when the script ends.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! serve")
	}
	dir, err := os.MkdirTemp("", "notify") // short enough for a socket's path
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(dir) })
	name := filepath.Join(dir, "s")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	ts.Check(err)
	defer func() { _ = notify.Close() }()

	binary, err := exec.LookPath("pibox")
	ts.Check(err)
	cmd := exec.Command(binary, append([]string{"serve"}, args...)...)
	for _, k := range []string{
		"HOME", "PATH", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "PIBOX_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
		"GORACE", "PIBOX_UNDER_TEST", "PIBOX_TEST",
	} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name)
	cmd.Dir = ts.Getenv("WORK")
	log, err := os.Create(filepath.Join(cmd.Dir, "serve.log"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	s := &server{cmd: cmd, log: log}
	*ts.Value(running{}).(**server) = s
	ts.Defer(func() { s.stop(ts) })
	ts.Check(notify.SetReadDeadline(time.Now().Add(60 * time.Second)))
	for buf := make([]byte, 4096); ; {
		n, err := notify.Read(buf)
		if err != nil {
			ts.Fatalf("serve is not ready: %v\n%s", err, s.text())
		}
		if strings.Contains("\n"+string(buf[:n])+"\n", "\nREADY=1\n") {
			return
		}
	}
}

// running is the key of the server that a script started last.
type running struct{}

// cmdStop stops the server as systemd does, and wants it to end well. Scripts say halt: stop is a word of testscript's own, which ends a script.
func cmdStop(ts *testscript.TestScript, _ bool, _ []string) {
	s := *ts.Value(running{}).(**server)
	if s == nil {
		ts.Fatalf("no server was started")
	}
	s.stop(ts)
}

func (s *server) text() string {
	text, _ := os.ReadFile(s.log.Name())
	return string(text)
}

func (s *server) stop(ts *testscript.TestScript) {
	if s.stopped {
		return
	}
	s.stopped = true
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		ts.Fatalf("serve ended with %v:\n%s", err, s.text())
	}
	_ = s.log.Close()
}

// cmdExits runs a command and wants one exit code: exits 3 pibox status.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

// cmdDenied runs a command as a user who may not do everything, and wants exit code 4: denied pibox restore one.db
func cmdDenied(ts *testscript.TestScript, _ bool, args []string) {
	if os.Geteuid() != 0 {
		cmdExits(ts, false, append([]string{"4"}, args...))
		return
	}
	for dir := ts.Getenv("WORK"); dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		ts.Check(os.Chmod(dir, 0o755))
	}
	for _, name := range []string{"text", "pibox.toml"} {
		ts.Check(os.Chmod(filepath.Join(ts.Getenv("WORK"), name), 0o644))
	}
	cmdExits(ts, false, append([]string{"4", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...))
}

// cmdStore makes a new database: store pibox.db; or with a second argument
// holds one open until the script ends, as a daemon does.
func cmdStore(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.Open(ts.MkAbs(args[0]), store.Options{})
	ts.Check(err)
	if len(args) > 1 {
		ts.Defer(func() { _ = s.Close() })
		return
	}
	ts.Check(s.Close())
}

// cmdLooks adds to the configuration where a new box looks for a backup: looks usb.
func cmdLooks(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs("pibox.toml")
	text := ts.ReadFile(path) + fmt.Sprintf("[backup]\nrestore_from = [%q]\n", ts.MkAbs(args[0]))
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}

// cmdSized makes a file of so many bytes: sized root.img 40960.
func cmdSized(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte("pibox"), (n+4)/5)[:n], 0o600))
}

// cmdMode wants a file's permissions: mode 600 backup.db.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
