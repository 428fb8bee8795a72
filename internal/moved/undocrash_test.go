package moved_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A move is begun and undone while one contact's server is away and another one's is not, in a process that is killed at one step of the committer and
// started again on the same file. The end is always the same: nobody is left with a question, and whose server was away was never asked.

const (
	envUndoDir  = "MOVED_UNDO_DIR"
	envUndoStep = "MOVED_UNDO_STEP"
)

func TestUndoCrashLife(t *testing.T) {
	dir := os.Getenv(envUndoDir)
	if dir == "" {
		dir = t.TempDir()
		synctest.Test(t, func(t *testing.T) { undoLife(t, dir, ending{}) })
		undoCheck(t, dir, "never killed")
		return
	}
	at, err := strconv.Atoi(os.Getenv(envUndoStep))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { undoLife(t, dir, ending{kill: at}) })
}

// TestUndoCrash ends the process at each step of the committer.
func TestUndoCrash(t *testing.T) {
	t.Parallel()
	crashes(t, 12, func(dir string, end ending) {
		synctest.Test(t, func(t *testing.T) { undoLife(t, dir, end) })
	}, func(dir string, at int) bool {
		cmd := exec.Command(os.Args[0], "-test.run=^TestUndoCrashLife$")
		cmd.Env = append(os.Environ(), envUndoDir+"="+dir, envUndoStep+"="+strconv.Itoa(at))
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			return true
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		return false
	}, func(dir, when string) { undoCheck(t, dir, when) })
}

// road is the way to two servers: montague.example takes what it is sent, verona.example is away until the move is undone.
type road struct {
	post
	mu     sync.Mutex
	log    *os.File
	undone bool
}

func (w *road) Send(st *xmpp.Stanza) {
	w.mu.Lock()
	waits := st.To.Domain == "verona.example" && !w.undone
	if !waits && st.Kind == xmpp.Presence {
		_, _ = fmt.Fprintf(w.log, "%s %s\n", st.To.Domain, st.Type)
	}
	w.mu.Unlock()
	switch {
	case waits:
		w.post.Send(st)
	case st.Kind == xmpp.IQ && st.IsRequest():
		go w.r.FromPeer(&xmpp.Peer{Domain: st.To.Domain, Proof: xmpp.ProofCertificate}, st.Result(nil))
	}
}

// back is that verona.example is there again, and gets what waited.
func (w *road) back() {
	w.post.mu.Lock()
	waited := w.wait
	w.wait = nil
	w.post.mu.Unlock()
	w.mu.Lock()
	w.undone = true
	w.mu.Unlock()
	for _, st := range waited {
		w.Send(st)
	}
}

func undoLife(t *testing.T, dir string, end ending) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	w, e := &road{post: post{got: map[string]int{}, away: true}, log: log}, &ender{ending: end, t: t, dir: dir}
	open := func(onStep func(store.Step)) *store.Store {
		st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1, OnStep: onStep})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open(e.onStep)
	old, new := xmpp.MustJID("juliet@old.example"), xmpp.MustJID("juliet@new.example")
	undone := false
	if err := st.Update(func(tx *store.Tx) error {
		job, _ := store.MoveJobs.Get(tx, new.String())
		if undone = job.State == store.MoveUndone; store.Accounts.Has(tx, old.String()) {
			return nil
		}
		store.Accounts.Put(tx, old.String(), store.Account{Created: time.Now()})
		for _, who := range []string{"here@montague.example", "away@verona.example"} {
			store.Roster.Put(tx, store.Key(old.String(), who), store.RosterItem{Sub: store.SubBoth})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, err := box.New(st, config.Default(), []string{"old.example", "new.example"}, "test", w, noLog())
	if err != nil {
		t.Fatal(err)
	}
	if w.r = b.Router; b.Start() != nil {
		t.Fatal("the box does not start")
	}
	synctest.Wait()
	if end.kill == onlySetUp {
		_ = b.Close()
		return
	}
	e.armed = true
	if !undone { // the person repeats what did not answer
		if err := b.Moved.Move(old, new, moved.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := b.Moved.Undo(new); err != nil {
			t.Fatal(err)
		}
	}
	w.back()
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	st = open(nil)
	defer func() { _ = st.Close() }()
	if err := os.WriteFile(filepath.Join(dir, "end"), []byte(dump(t, st)+jobs(t, st)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func undoCheck(t *testing.T, dir, when string) {
	t.Helper()
	end, err := os.ReadFile(filepath.Join(dir, "end"))
	if err != nil {
		t.Fatal(when, err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(when, err)
	}
	have := ""
	for line := range strings.Lines(string(end)) {
		if !strings.HasPrefix(line, "message: ") {
			have += line
		}
	}
	const want = `juliet@new.example: away@verona.example none; here@montague.example none
juliet@old.example: away@verona.example both; here@montague.example both
job juliet@new.example undone: away@verona.example dropped; here@montague.example dropped`
	if have != want {
		t.Errorf("%s: stored is in the end\n%s\nexpected\n%s", when, have, want)
	}
	open := false
	for line := range strings.Lines(string(log)) {
		switch strings.TrimSpace(line) {
		case "verona.example subscribe":
			t.Errorf("%s: who was away was asked:\n%s", when, log)
		case "montague.example subscribe":
			open = true
		case "montague.example unsubscribe":
			open = false
		}
	}
	if open {
		t.Errorf("%s: somebody is left with a question:\n%s", when, log)
	}
}
