package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pibox/internal/admin"
	"pibox/internal/slot"
)

// system is a box of the card image in a folder.
type system struct {
	t *testing.T
	Place
	dir string
}

func newSystem(t *testing.T) *system {
	dir := t.TempDir()
	s := &system{t: t, dir: dir}
	in := func(name string) string { return filepath.Join(dir, name) }
	s.Place = Place{
		Slot:    slot.Where{Cmdline: in("cmdline"), Sys: in("sys"), Dev: in("dev"), Root: "179:2"},
		Release: in("os-release"), Keys: in("keys"), Data: in("data"), RunDir: in("run"), Folders: []string{in("fat"), in("usb")}, Request: in("box/request.json"),
	}
	s.write("os-release", "PRETTY_NAME=\"Debian\"\nIMAGE_ID=pibox\nIMAGE_VERSION=v3\nPIBOX_RELEASE=3\n")
	s.write("keys", Public(testKey(1)))
	for n := 1; n <= 4; n++ {
		s.write(fmt.Sprintf("sys/mmcblk0/mmcblk0p%d/partition", n), fmt.Sprintln(n))
	}
	s.write("dev/mmcblk0", strings.Repeat("\x00", 100*slot.Size))
	s.write("dev/mmcblk0p2", string(image(10)))
	s.write("dev/mmcblk0p3", string(image(11)))
	for _, d := range []string{"fat", "usb", "box", "sys/dev/block"} {
		if err := os.MkdirAll(in(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	return s
}

func (s *system) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) update(name string, release int64, seed uint64) string {
	s.write(name, string(file(s.t, image(seed), manifest(release), testKey(1))))
	return filepath.Join(s.dir, name)
}

// start is what u-boot does, and the units that start first.
func (s *system) start() slot.Slot {
	s.t.Helper()
	took := s.boot()
	if _, err := s.Boot(); err != nil {
		s.t.Fatal(err)
	}
	return took
}

// boot is what u-boot does.
func (s *system) boot() slot.Slot {
	s.t.Helper()
	disk := slot.Device{Path: filepath.Join(s.dir, "dev/mmcblk0")}
	state, err := disk.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	took, trial := state.Next(), 0
	if state.Trial != slot.None && state.Tries > 0 {
		trial = 1
		if _, err := disk.Update(func(st slot.State) slot.State { st.Tries--; return st }); err != nil {
			s.t.Fatal(err)
		}
	}
	s.write("cmdline", fmt.Sprintf("root=x ro pibox.slot=%s pibox.trial=%d\n", took, trial))
	link := filepath.Join(s.dir, "sys/dev/block/179:2")
	_ = os.Remove(link)
	if err := os.Symlink(fmt.Sprintf("../../mmcblk0/mmcblk0p%d", 2+took), link); err != nil {
		s.t.Fatal(err)
	}
	if err := os.RemoveAll(s.RunDir); err != nil {
		s.t.Fatal(err)
	}
	return took
}

func (s *system) must(result Result, words string) {
	s.t.Helper()
	o, there, err := s.Last()
	if err != nil || !there || o.Result != result || !strings.Contains(o.Words(), words) {
		s.t.Errorf("%+v, %v; want %s, %q", o, err, result, words)
	}
}

func code(err error) admin.Code {
	var known *admin.Error
	if errors.As(err, &known) {
		return known.Code
	}
	return ""
}

func TestUpdateThatWorks(t *testing.T) {
	s := newSystem(t)
	m, err := s.Install(t.Context(), Request{From: s.update("x.update", 5, 20)}, nil)
	if err != nil || m.Version != "v5" {
		t.Fatalf("%v, %v", m, err)
	}
	if st, there, err := s.Status(); err != nil || !there || st.Running || !st.Restart || st.Error != "" {
		t.Errorf("%+v, %v", st, err)
	}
	s.must(ResultPending, "the next start tries it")
	if got, err := os.ReadFile(filepath.Join(s.dir, "dev/mmcblk0p3")); err != nil || !bytes.Equal(got, image(20)) {
		t.Errorf("slot b holds something else: %v", err)
	}
	if took := s.start(); took != slot.B {
		t.Fatalf("u-boot took %s", took)
	}
	if r, err := s.Running(); err != nil || !r.Unconfirmed() || r.Slot != "b" {
		t.Errorf("%+v, %v", r, err)
	}
	if trying, err := s.Trying(); err != nil || !trying {
		t.Errorf("%t, %v", trying, err)
	}
	s.must(ResultPending, "")
	if _, err := s.Install(t.Context(), Request{From: s.update("y.update", 6, 21)}, nil); code(err) != admin.CodeBusy {
		t.Errorf("another update while one is tried: %v", err)
	}
	if err := s.Confirm(); err != nil {
		t.Fatal(err)
	}
	s.must(ResultInstalled, "v5 is installed")
	if r, err := s.Running(); err != nil || r.Unconfirmed() {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := s.Boot(); err != nil || r.Unconfirmed() { // a unit that is started again
		t.Errorf("%+v, %v", r, err)
	}
	for range 5 {
		if took := s.start(); took != slot.B {
			t.Fatalf("u-boot took %s", took)
		}
	}
}

func TestUpdateThatIsTakenBack(t *testing.T) {
	s := newSystem(t)
	path := s.update("x.update", 5, 20)
	if _, err := s.Install(t.Context(), Request{From: path}, nil); err != nil {
		t.Fatal(err)
	}
	s.start()
	if err := s.RollBack("pibox did not serve: the disk is full"); err != nil {
		t.Fatal(err)
	}
	if took := s.start(); took != slot.A {
		t.Fatalf("u-boot took %s", took)
	}
	s.must(ResultRolledBack, "did not work, so this box went back to v3: pibox did not serve: the disk is full")
	// By itself the box does not try it again; a person may.
	if _, err := s.Install(t.Context(), Request{From: path, Once: true}, nil); !errors.Is(err, ErrTried) {
		t.Errorf("tried again: %v", err)
	}
	if _, err := s.Install(t.Context(), Request{From: path}, nil); err != nil {
		t.Errorf("a person may not try it again: %v", err)
	}
}

func TestUpdateThatNeverComesUp(t *testing.T) {
	s := newSystem(t)
	if _, err := s.Install(t.Context(), Request{From: s.update("x.update", 5, 20)}, nil); err != nil {
		t.Fatal(err)
	}
	for range Tries {
		if took := s.boot(); took != slot.B { // hangs before any of our units
			t.Fatalf("u-boot took %s", took)
		}
	}
	if took := s.start(); took != slot.A {
		t.Fatalf("u-boot took %s", took)
	}
	s.must(ResultRolledBack, "did not start")
	if state, err := (slot.Device{Path: filepath.Join(s.dir, "dev/mmcblk0")}).Read(); err != nil || state.Trial != slot.None {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestUpdateCutOffBeforeTheTrial(t *testing.T) {
	s := newSystem(t)
	if err := writeJSON(s.outcomePath(), Outcome{Version: "v5", Slot: "b", Result: ResultPending}); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.must(ResultFailed, "cut off before it was tried")
}

// A confirmation whose last steps were cut off counts: the sector is what counts.
func TestConfirmationCutOff(t *testing.T) {
	s := newSystem(t)
	if _, err := s.Install(t.Context(), Request{From: s.update("x.update", 5, 20)}, nil); err != nil {
		t.Fatal(err)
	}
	s.start()
	if _, err := (slot.Device{Path: filepath.Join(s.dir, "dev/mmcblk0")}).Update(func(st slot.State) slot.State { return st.Confirm(slot.B) }); err != nil {
		t.Fatal(err)
	}
	if err := s.RollBack("too late"); err != nil {
		t.Fatal(err)
	}
	if took := s.start(); took != slot.B {
		t.Fatalf("u-boot took %s", took)
	}
}

func TestInstallRefuses(t *testing.T) {
	s := newSystem(t)
	old, same, unsigned := s.update("old.update", 2, 20), s.update("same.update", 3, 20), filepath.Join(s.dir, "cmdline")
	for name, c := range map[string]struct {
		from string
		code admin.Code
	}{
		"older": {old, admin.CodeInvalid}, "the same": {same, admin.CodeExists}, "unsigned": {unsigned, admin.CodeInvalid},
		"missing": {old + "x", admin.CodeNotFound},
	} {
		if _, err := s.Install(t.Context(), Request{From: c.from}, nil); code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
		if st, _, err := s.Status(); err != nil || st.Error == "" || st.Restart {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	if _, err := s.Install(t.Context(), Request{From: old, Downgrade: true}, nil); err != nil {
		t.Errorf("an older one that was asked for: %v", err)
	}
}

func TestNotTheCardsSystem(t *testing.T) {
	for name, breakIt := range map[string]func(*system){
		"another system":  func(s *system) { s.write("os-release", "ID=debian\n") },
		"no os-release":   func(s *system) { _ = os.Remove(s.Release) },
		"not from a slot": func(s *system) { s.write("cmdline", "root=/dev/sda1 ro\n") },
	} {
		s := newSystem(t)
		path := s.update("x.update", 5, 20)
		breakIt(s)
		_, err := s.Install(t.Context(), Request{From: path}, nil)
		if err == nil || !strings.Contains(err.Error(), "not installed from the card image") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	s := newSystem(t)
	unlock, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := s.Install(t.Context(), Request{From: s.update("x.update", 5, 20)}, nil); code(err) != admin.CodeBusy {
		t.Errorf("%v", err)
	}
}

func TestFind(t *testing.T) {
	s := newSystem(t)
	if _, err := s.Find(t.Context()); code(err) != admin.CodeNotFound {
		t.Errorf("nothing there: %v", err)
	}
	s.write("fat/pibox-bad.update", "hello")
	s.update("fat/pibox-old.update", 2, 20)
	if _, err := s.Find(t.Context()); code(err) != admin.CodeInvalid {
		t.Errorf("nothing good there: %v", err)
	}
	s.update("fat/pibox-5.update", 5, 20)
	want := s.update("usb/pibox-6.update", 6, 20)
	s.update("usb/other.update", 9, 20)
	if got, err := s.Find(t.Context()); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestRequest(t *testing.T) {
	s := newSystem(t)
	path := s.update("usb/pibox-5.update", 5, 20)
	for _, from := range []string{path, "https://example.org/x.update"} {
		if err := s.Ask(Request{From: from, Downgrade: true}); err != nil {
			t.Fatal(err)
		}
		if r, there, err := s.Requested(); err != nil || !there || r != (Request{From: from}) {
			t.Errorf("%+v, %t, %v", r, there, err)
		}
		if _, there, err := s.Requested(); there || err != nil {
			t.Errorf("still there: %v", err)
		}
	}
}

// The folder belongs to a user who may be a stranger by then.
func TestRequestHostile(t *testing.T) {
	for name, make := range map[string]func(s *system) error{
		"a link":  func(s *system) error { return os.Symlink(filepath.Join(s.dir, "keys"), s.Request) },
		"a pipe":  func(s *system) error { return unix.Mkfifo(s.Request, 0o600) },
		"no JSON": func(s *system) error { s.write("box/request.json", "hello"); return nil },
		"huge": func(s *system) error {
			s.write("box/request.json", `{"from":"`+strings.Repeat("x", maxRequest)+`"}`)
			return nil
		},
		"another file": func(s *system) error { s.write("box/request.json", `{"from":"/etc/shadow"}`); return nil },
		"a way out":    func(s *system) error { s.write("box/request.json", `{"from":"`+s.Folders[0]+`/../../x"}`); return nil },
		"more fields":  func(s *system) error { s.write("box/request.json", `{"from":"http://x/","force":true}`); return nil },
	} {
		s := newSystem(t)
		if err := make(s); err != nil {
			t.Fatal(err)
		}
		if r, there, err := s.Requested(); there || err == nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if _, err := os.Lstat(s.Request); err == nil {
			t.Errorf("%s: it is still there", name)
		}
	}
}

func TestCheckStopsWithItsContext(t *testing.T) {
	s := newSystem(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Install(ctx, Request{From: s.update("x.update", 5, 20)}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// One that was killed does not seem to go on for ever.
func TestStatusOfOneThatWasKilled(t *testing.T) {
	s := newSystem(t)
	for age, running := range map[time.Duration]bool{time.Minute: true, silence + time.Minute: false} {
		if err := writeRun(s.statusPath(), Status{Running: true, At: time.Now().Add(-age)}, nil); err != nil {
			t.Fatal(err)
		}
		if st, _, err := s.Status(); err != nil || st.Running != running || (st.Error == "") != running {
			t.Errorf("%v old: %+v, %v", age, st, err)
		}
	}
}
