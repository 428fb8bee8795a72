package box

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"pibox/internal/store"
)

// A damaged database can end the process that reads it: a page that is not there is a bus error, and bbolt panics in goroutines of its own. So
// the program reads one it does not know in a child process, which is itself with one of these words as its first argument.
const (
	ChildCheck   = "check-store"     // FILE
	ChildPrepare = "prepare-restore" // BACKUP NEW: makes a database of a copy of one; prints store.Summary
	ChildAdopt   = "adopt-store"     // FILE RESTORED: makes a database of another box one to serve from; prints store.Summary
)

// IsChild tells whether a first argument is one of these words.
func IsChild(word string) bool {
	return slices.Contains([]string{ChildCheck, ChildPrepare, ChildAdopt}, word)
}

// How a child ends. Anything else is the damage that ended it.
const (
	childDone    = 0
	childFailed  = 1
	childDamaged = 65 // EX_DATAERR of sysexits(3)
	childNewer   = 66
)

// childStack bounds the stack, in bytes: pages that refer to themselves must not take all memory.
const childStack = 64 << 20

// Child is what such a child process runs; it returns its exit code.
func Child(args []string, out, errs io.Writer) int {
	debug.SetMaxStack(childStack)
	err := childWork(args, out)
	switch {
	case err == nil:
		return childDone
	case errors.Is(err, store.ErrDamaged):
		fmt.Fprintln(errs, err)
		return childDamaged
	case errors.Is(err, store.ErrNewer):
		fmt.Fprintln(errs, err)
		return childNewer
	}
	fmt.Fprintln(errs, err)
	return childFailed
}

func childWork(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == ChildCheck:
		return store.Check(args[1])
	case len(args) == 3 && args[0] == ChildPrepare:
		sum, err := store.Restore(args[1], args[2])
		return errors.Join(err, json.NewEncoder(out).Encode(sum))
	case len(args) == 3 && args[0] == ChildAdopt:
		sum, err := store.Adopt(args[1], args[2] == strconv.FormatBool(true))
		return errors.Join(err, json.NewEncoder(out).Encode(sum))
	}
	return fmt.Errorf("%q is no work for a child process", args)
}

// CheckStore reads a database or a backup whole in a child process, without changing it. The error is store.ErrDamaged where it can not be used,
// store.ErrNewer where a newer version can.
func CheckStore(ctx context.Context, path string) error {
	_, err := runChild(ctx, ChildCheck, path)
	return err
}

// prepareRestore checks a copy of a database in a child process and makes a database of it at path, where there is none yet. The error is
// store.ErrDamaged where the backup can not be used.
func prepareRestore(ctx context.Context, backup, path string) (store.Summary, error) {
	return summarize(runChild(ctx, ChildPrepare, backup, path))
}

// adopt does so with the file itself.
func adopt(ctx context.Context, path string, restored bool) (store.Summary, error) {
	return summarize(runChild(ctx, ChildAdopt, path, strconv.FormatBool(restored)))
}

func summarize(said string, err error) (sum store.Summary, _ error) {
	if err != nil {
		return sum, err
	}
	return sum, json.Unmarshal([]byte(said), &sum)
}

// newerError is store.ErrNewer in the words of a child.
type newerError struct{ text string }

func (e newerError) Error() string { return e.text }
func (e newerError) Unwrap() error { return store.ErrNewer }

func runChild(ctx context.Context, args ...string) (said string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return strings.TrimSpace(out.String()), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case !errors.As(err, &ended):
		return "", err
	case ended.ExitCode() == childFailed:
		return "", errors.New(strings.TrimSpace(errs.String()))
	case ended.ExitCode() == childNewer:
		return "", newerError{strings.TrimSpace(errs.String())}
	}
	return "", store.ErrDamaged
}
