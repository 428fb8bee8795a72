package moved_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"pibox/internal/store"
)

// A life is ended at a step of the committer in one of two ways: the process is killed, or what a kill would leave, the store's file as the kernel has it
// and what everybody got so far, is copied at that step while the life goes on. The second proves the same without a process for each step.
type ending struct {
	kill int                        // at this step; 0: at none
	keep func(step int) (to string) // where it is copied to; "" for not
}

// ender counts steps from when it is armed.
type ender struct {
	ending
	t     testing.TB
	dir   string
	armed bool
	steps int
}

func (e *ender) onStep(step store.Step) {
	if !e.armed {
		return
	}
	if e.steps++; e.steps == e.kill {
		if err := killed(e.dir, step); err != nil {
			e.t.Error(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if e.keep == nil {
		return
	}
	if to := e.keep(e.steps); to != "" {
		if err := errors.Join(copyLife(e.dir, to), killed(to, step)); err != nil {
			e.t.Error(err)
		}
	}
}

// killed notes the end of a life in its log.
func killed(dir string, step store.Step) error {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(log, "killed: %s\n", step)
	return errors.Join(err, log.Close())
}

// copyLife copies what a life has left so far.
func copyLife(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"pibox.db", "log"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// crashes plays a life to its end, and from each of its steps on once more, as if it had been killed there; every third one is killed again, in the middle
// of what it makes up for. One is really killed, by process. life plays in a folder, and check looks at what it left there.
func crashes(t *testing.T, least int, life func(dir string, end ending), process func(dir string, at int) (killed bool), check func(dir, when string)) {
	t.Helper()
	root, fresh := t.TempDir(), t.TempDir()
	life(fresh, ending{kill: onlySetUp})
	if err := os.Remove(filepath.Join(fresh, "log")); err != nil { // nothing has happened yet
		t.Fatal(err)
	}
	whole, once := filepath.Join(root, "whole"), filepath.Join(root, "once")
	for _, dir := range []string{whole, once} {
		if err := copyLife(fresh, dir); err != nil {
			t.Fatal(err)
		}
	}
	at := func(step int) string { return filepath.Join(root, strconv.Itoa(step)) }
	last := 0
	life(whole, ending{keep: func(step int) string {
		last = step
		return at(step)
	}})
	check(whole, "never killed")
	if last < least {
		t.Fatalf("there are only %d steps", last)
	}
	t.Logf("%d steps", last)
	for n := 1; n <= last; n++ {
		dir, when := at(n), "killed at step "+strconv.Itoa(n)
		if n%3 == 0 {
			again := dir + "again"
			life(dir, ending{keep: func(step int) string {
				if step == n/2 {
					return again
				}
				return ""
			}})
			if _, err := os.Stat(again); err == nil {
				dir, when = again, when+", then at step "+strconv.Itoa(n/2)
			}
		}
		life(dir, ending{})
		check(dir, when)
	}
	if !process(once, last/2) {
		t.Fatal("the process was not killed")
	}
	life(once, ending{})
	check(once, "killed, by process, at step "+strconv.Itoa(last/2))
}
