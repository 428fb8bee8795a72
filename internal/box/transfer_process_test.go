package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/testbox"
	"pibox/internal/transfer"
)

// fetchWord makes this test binary the command that fetches a box.
const fetchWord = "fetch-box"

// killAt ends the process at a step, once, as a power cut would.
func killAt(dir string) func(string) {
	return func(step string) {
		path := filepath.Join(dir, "kill")
		if want, err := os.ReadFile(path); err == nil && string(want) == step {
			_ = os.Remove(path)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}

func serveProcess(file string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, problems := config.Load(file)
	if err := problems.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	d := NewDaemon(cfg, "test", slog.New(slog.NewTextHandler(os.Stderr, nil)), io.Discard)
	d.SetSource(ConfigSource{File: func() string { return file }, Load: func() (config.Config, error) {
		cfg, problems := config.Load(file)
		return cfg, problems.Err()
	}})
	d.OnStep = killAt(filepath.Dir(file))
	if err := d.Serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func fetchProcess(args []string) int {
	file, address, typed := args[0], args[1], args[2]
	cfg, problems := config.Load(file)
	code, err := transfer.ParseCode(typed)
	if err := errors.Join(err, problems.Err()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	done, err := Fetch(context.Background(), cfg, FetchRequest{
		Address: address, Code: code, Config: file, Patience: time.Minute, OnStep: killAt(filepath.Dir(file)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(done)
	return 0
}

// house has an old box that serves, and a new one that was never started.
type house struct {
	t        *testing.T
	old, new *testbox.Box
	address  string
	code     string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=1") // else every process takes a second under -race
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t}
	for i, b := range []**testbox.Box{&h.old, &h.new} {
		host, err := testbox.FreeHost()
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "house") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		*b = &testbox.Box{
			Binary: self, Dir: dir, Host: host, Domain: "home.example",
			Config: "[store]\nreserve = \"1MiB\"\n[backup]\nrestore_from = []\n", Tables: map[string]string{"log": "level = \"debug\"\n"},
		}
		t.Cleanup(func() {
			(*b).Stop()
			if log, _ := os.ReadFile((*b).LogFile()); t.Failed() {
				t.Logf("box %d:\n%s", i, log)
			}
			_ = os.RemoveAll(dir)
		})
	}
	h.start(h.old)
	if _, err := h.old.Admin().UserAdd(t.Context(), admin.UserAddRequest{User: "juliet", Password: "wherefore art thou"}); err != nil {
		t.Fatal(err)
	}
	offer, err := h.old.Admin().TransferOffer(t.Context(), admin.TransferOfferRequest{Listen: h.old.Host + ":0"})
	if err != nil {
		t.Fatal(err)
	}
	h.address, h.code = offer.Addresses[0], offer.Code
	if err := os.MkdirAll(h.new.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.new.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) start(b *testbox.Box) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if err := b.Start(ctx); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) killAt(b *testbox.Box, step string) {
	if err := os.WriteFile(filepath.Join(b.Dir, "kill"), []byte(step), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// fetch runs the command; done is called when it ended.
func (h *house) fetch(address string) (said string, err error) {
	self, _ := os.Executable()
	cmd := exec.Command(self, fetchWord, h.new.ConfigFile(), address, h.code)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *house) config(b *testbox.Box) config.Config {
	cfg, problems := config.Load(b.ConfigFile())
	if err := problems.Err(); err != nil {
		h.t.Fatal(err)
	}
	return cfg
}

// serves tells whether a running box takes clients.
func (h *house) serves(b *testbox.Box) (bool, string) {
	s, err := b.Admin().Status(h.t.Context(), admin.StatusRequest{})
	return err == nil && len(s.Listeners) > 0, strings.Join(s.Reasons, "; ")
}

// await waits until a box that runs is as it should be.
func (h *house) await(what string, is func() bool) {
	h.t.Helper()
	for late := time.Now().Add(patience); !is(); {
		if time.Now().After(late) {
			h.t.Fatalf("%s: waited in vain", what)
		}
		if !tick(h.t.Context(), 5*time.Millisecond) {
			return
		}
	}
}

// moved checks that the old box is closed for good and that the new one is the same box.
func (h *house) moved() {
	h.t.Helper()
	closed := func() bool {
		ok, why := h.serves(h.old)
		return !ok && strings.Contains(why, "was handed over to ")
	}
	h.await("the old box is closed", closed)
	h.start(h.new)
	if t, ok := h.taken(); !ok || t.From == "" || t.At.IsZero() {
		h.t.Errorf("whoever repeats the command is not told that it is done: %+v", t)
	}
	users, err := h.new.Admin().UserList(h.t.Context(), admin.UserListRequest{})
	if err != nil || len(users.Users) != 2 {
		h.t.Errorf("%+v %v", users, err)
	}
	if s, err := h.new.Admin().Status(h.t.Context(), admin.StatusRequest{}); err != nil || s.Held || s.State != "well" {
		h.t.Errorf("%+v %v", s, err)
	}
	one, _ := os.ReadFile(h.old.Authority())
	two, _ := os.ReadFile(h.new.Authority())
	if len(one) == 0 || string(one) != string(two) {
		h.t.Error("the new box has another authority")
	}
	c, err := h.new.Login(h.t.Context(), "juliet", "wherefore art thou", "balcony")
	if err != nil {
		h.t.Fatal(err)
	}
	c.Close(h.t.Context())
	h.old.Stop() // also after a start
	if err := h.old.Launch(); err != nil {
		h.t.Fatal(err)
	}
	h.await("the old box is closed after a start", closed)
	if _, err := h.old.Admin().TransferOffer(h.t.Context(), admin.TransferOfferRequest{Listen: h.old.Host + ":0"}); err == nil {
		h.t.Error("a box that was handed over is offered again")
	}
}

// stayed checks that the old box serves and that nothing is left on the new one.
func (h *house) stayed() {
	h.t.Helper()
	h.await("the old box serves", func() bool { ok, _ := h.serves(h.old); return ok })
	cfg := h.config(h.new)
	if isThere(StorePath(cfg)) || isThere(filepath.Join(cfg.DataDir, installFolder)) || FetchWaits(cfg) {
		h.t.Error("there is something on the new box")
	}
	if _, taken := h.taken(); taken {
		h.t.Error("the new box says that it took the old one's place")
	}
}

func (h *house) taken() (Taken, bool) {
	code, err := transfer.ParseCode(h.code)
	if err != nil {
		h.t.Fatal(err)
	}
	return TakenBy(h.config(h.new), code)
}

func TestTransfer(t *testing.T) {
	h := newHouse(t)
	first := h.code
	offer, err := h.old.Admin().TransferOffer(t.Context(), admin.TransferOfferRequest{Listen: h.address})
	if err != nil || !offer.Voided {
		t.Fatalf("%+v, %v", offer, err)
	}
	if said, err := h.fetch(h.address); err == nil || !strings.Contains(said, "does not have this code") {
		t.Error("the first code is not void", err, said)
	}
	if h.code = offer.Code; h.code == first {
		t.Error("the same code")
	}
	said, err := h.fetch(h.address)
	if err != nil {
		t.Fatal(err, said)
	}
	h.moved()
	h.new.Stop()
	if said, err := h.fetch(h.address); err == nil || !strings.Contains(said, "took the place of the one at "+h.address+" already, on 20") {
		t.Error(err, said)
	}
	// Only its owner takes the old one back: nothing else is said to do so.
	if _, err := h.old.Admin().UserList(t.Context(), admin.UserListRequest{}); err == nil || !strings.Contains(err.Error(), "was handed over") {
		t.Error(err)
	} else if e := new(admin.Error); !errors.As(err, &e) || strings.Contains(e.Next, "by itself") {
		t.Errorf("%+v", e)
	}
	if _, err := h.old.Admin().TransferReopen(t.Context(), admin.TransferReopenRequest{}); err != nil {
		t.Fatal(err)
	}
	h.await("the old box serves", func() bool { ok, _ := h.serves(h.old); return ok })
	if _, err := h.old.Admin().TransferReopen(t.Context(), admin.TransferReopenRequest{}); err == nil {
		t.Error("reopened twice")
	}
}

// Wherever the old box dies, it serves again when nothing was marked, and never when it was.
func TestOldBoxDies(t *testing.T) {
	for _, step := range []string{"begun", "stopped", "sent", "verified", "marked", "told"} {
		t.Run(step, func(t *testing.T) {
			h := newHouse(t)
			h.killAt(h.old, step)
			type result struct {
				said string
				err  error
			}
			fetched := make(chan result, 1)
			go func() {
				said, err := h.fetch(h.address)
				fetched <- result{said, err}
			}()
			<-h.old.Ended()
			given := step == "marked" || step == "told"
			if err := h.old.Launch(); err != nil {
				t.Fatal(err)
			}
			got := <-fetched
			if (got.err == nil) != given {
				t.Fatalf("%v: %s", got.err, got.said)
			}
			if given {
				h.moved()
				return
			}
			h.stayed()
			if said, err := h.fetch(h.address); err != nil { // the code is still good
				t.Fatal(err, said)
			}
			h.moved()
		})
	}
}

// Wherever the new box dies, the old one serves again or was handed over, and the new one finds out which.
func TestNewBoxDies(t *testing.T) {
	for _, step := range []string{"connected", "begun", "prepared", "kept", "given", "installed"} {
		for _, again := range []string{"command", "daemon"} {
			t.Run(step+", "+again, func(t *testing.T) {
				h := newHouse(t)
				h.killAt(h.new, step)
				if said, err := h.fetch(h.address); err == nil {
					t.Fatal("it was not killed", said)
				}
				cfg := h.config(h.new)
				switch {
				case step == "installed", step == "given" && again == "daemon":
					h.moved()
				case step == "given":
					if said, err := h.fetch(h.address); err != nil {
						t.Fatal(err, said)
					}
					h.moved()
				case step == "kept" && again == "daemon":
					h.await("the old box serves", func() bool { ok, _ := h.serves(h.old); return ok })
					h.start(h.new) // as an empty one: what it got is thrown away
					if FetchWaits(cfg) {
						t.Error("it waits still")
					}
					if users, _ := h.new.Admin().UserList(t.Context(), admin.UserListRequest{}); len(users.Users) != 1 {
						t.Errorf("%+v", users)
					}
				case step == "kept":
					h.await("the old box serves", func() bool { ok, _ := h.serves(h.old); return ok })
					if said, err := h.fetch(h.address); err == nil || !strings.Contains(said, "it serves") {
						t.Fatal(err, said)
					}
					h.stayed()
				default:
					h.stayed()
					var said string
					var err error
					h.await("the old box knows that the new one is gone", func() bool {
						said, err = h.fetch(h.address)
						return err == nil || !strings.Contains(said, "it is being handed over to another one")
					})
					if err != nil {
						t.Fatal(err, said)
					}
					h.moved()
				}
			})
		}
	}
}

// While the new box does not know whether the old one handed over, it serves nothing.
func TestNoAnswer(t *testing.T) {
	h := newHouse(t)
	h.killAt(h.new, "given")
	if said, err := h.fetch(h.address); err == nil {
		t.Fatal("it was not killed", said)
	}
	h.old.Kill()
	if err := h.new.Launch(); err != nil {
		t.Fatal(err)
	}
	h.await("the new box tells why it does not serve", func() bool {
		ok, why := h.serves(h.new)
		return !ok && strings.Contains(why, "does not know yet whether that one stopped")
	})
	h.new.Stop()
	cfg := h.config(h.new)
	if _, err := Restore(t.Context(), cfg, Source{Reader: strings.NewReader("x"), Name: "x", Replace: true}); err == nil || !strings.Contains(err.Error(), "a transfer from another box waits") {
		t.Errorf("restored beside it: %v", err)
	}
	done, err := FetchAnyway(t.Context(), cfg)
	if err != nil || !done.Held {
		t.Fatalf("%+v %v", done, err)
	}
	h.start(h.new)
	if s, err := h.new.Admin().Status(t.Context(), admin.StatusRequest{}); err != nil || !s.Held || s.Users != 2 {
		t.Errorf("%+v %v", s, err)
	}
	if FetchDiscard(cfg) == nil {
		t.Error("thrown away under a running box")
	}
}

// Wherever the connection is cut, one of the two serves in the end, never both.
func TestCutConnection(t *testing.T) {
	h := newHouse(t)
	w := newWire(t, h.address)
	cfg := h.config(h.new)
	code, _ := transfer.ParseCode(h.code)
	for n := int64(200); ; n = n*3/2 + 97 {
		w.cutAfter(n, false)
		_, err := Fetch(t.Context(), cfg, FetchRequest{Address: w.ln.Addr().String(), Code: code, Config: h.new.ConfigFile(), Patience: patience})
		if err == nil {
			t.Logf("cut after %d bytes did no harm", n)
			break
		}
		h.stayed()
	}
	h.moved()
}

// The answer is lost: the new box asks again, and gets it.
func TestLostAnswer(t *testing.T) {
	h := newHouse(t)
	w := newWire(t, h.address)
	code, _ := transfer.ParseCode(h.code)
	asked := false
	done, err := Fetch(t.Context(), h.config(h.new), FetchRequest{
		Address: w.ln.Addr().String(), Code: code, Config: h.new.ConfigFile(), Patience: patience,
		OnStep: func(step string) {
			if step == "kept" {
				w.cutAfter(0, true)
			}
		},
		Say: func(format string, _ ...any) { asked = asked || strings.Contains(format, "Asking again") },
	})
	if err != nil || !asked || done.Users != 2 {
		t.Fatalf("%v, asked again: %v, %+v", err, asked, done)
	}
	h.moved()
}

// Who does not have the code gets nothing, and soon no more attempts; the box goes on serving.
func TestWrongCodes(t *testing.T) {
	h := newHouse(t)
	began := time.Now()
	for range 3 {
		_, err := Fetch(t.Context(), h.config(h.new), FetchRequest{Address: h.address, Code: transfer.NewCode()})
		if err == nil {
			t.Fatal("a wrong code")
		}
	}
	if took := time.Since(began); took < 2*wrongPause {
		t.Errorf("3 attempts in %v", took)
	}
	if _, err := h.old.Admin().TransferWithdraw(t.Context(), admin.TransferWithdrawRequest{}); err != nil {
		t.Error(err)
	}
	if said, err := h.fetch(h.address); err == nil || !strings.Contains(said, "can not be reached") {
		t.Error(err, said)
	}
	h.stayed()
}

// Who has no code and holds as many connections as he is given, without a word, does not keep the new box from the old one.
func TestCrowdWithoutCode(t *testing.T) {
	h := newHouse(t)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 40 {
		conn, err := d.DialContext(t.Context(), "tcp", h.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	if said, err := h.fetch(h.address); err != nil {
		t.Fatal(err, said)
	}
	h.moved()
}
