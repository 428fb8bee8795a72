package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/config"
)

// The exit codes; rootLong tells them to the person.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitForbidden  = 4
	exitNotFound   = 5
	exitExists     = 6
)

// runError marks an error of a command that was understood and ran. All other
// errors are cobra's, about the command line.
type runError struct{ error }

func (e runError) Unwrap() error { return e.error }

// usageError is a wrong use that a command found itself.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// silentError ends a command with an exit code whose reason its output says
// already.
type silentError struct{ code int }

func (e silentError) Error() string { return "failed" }

// ran adapts a command's function to cobra.
func ran(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f(c.Context(), args); err != nil {
			return runError{err}
		}
		return nil
	}
}

// fail tells the person what went wrong and returns the exit code.
func (a *app) fail(err error) int {
	var problems config.Problems
	var known *admin.Error
	var usage usageError
	var run runError
	var silent silentError
	switch {
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &problems):
		a.failProblems(problems)
		return exitUsage
	case errors.As(err, &usage) || !errors.As(err, &run):
		a.failWith(&admin.Error{Code: "usage", Message: err.Error(), Next: "'pibox help' shows the commands, --help after one how it is used."})
		return exitUsage
	case errors.As(err, &known):
		a.failWith(known)
	case errors.Is(err, context.Canceled):
		a.failWith(admin.Errorf(admin.CodeFailed, "interrupted"))
	default:
		a.failWith(admin.Errorf(admin.CodeFailed, "%v", err))
	}
	return exitCode(known)
}

func exitCode(e *admin.Error) int {
	if e == nil {
		return exitFailed
	}
	switch e.Code {
	case admin.CodeNotRunning:
		return exitNotRunning
	case admin.CodeForbidden:
		return exitForbidden
	case admin.CodeNotFound:
		return exitNotFound
	case admin.CodeExists, admin.CodeRunning:
		return exitExists
	}
	return exitFailed
}

func (a *app) failWith(e *admin.Error) {
	if a.json {
		a.printJSONTo(a.err, map[string]any{"error": e})
		return
	}
	a.say("pibox: %s", e.Message)
	if e.Next != "" {
		a.say("%s", e.Next)
	}
}

func (a *app) failProblems(problems config.Problems) {
	if a.json {
		a.printJSONTo(a.err, map[string]any{"problems": problems})
		return
	}
	a.say("%s", problems.Error())
	n := len(problems.Mistakes())
	a.say("%s in the configuration; nothing was changed. 'pibox config example' shows every key.", plural(n, "mistake"))
}

// print writes a result: as JSON where that was asked for, else as text.
func (a *app) print(result any, format string, args ...any) {
	if a.json {
		a.printJSONTo(a.out, result)
		return
	}
	fmt.Fprintf(a.out, format+"\n", args...)
}

func (a *app) printJSONTo(w io.Writer, v any) {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// say writes a line for the person to standard error.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// ago says how long before now t was, in its two largest units.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%s %d h", plural(days, "day"), hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d s", max(int(d.Seconds()), 0))
}

// size writes a number of bytes to one decimal.
func size(n int64) string {
	const unit = 1 << 10
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v, i = v/unit, i+1
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + string("KMGTP"[i]) + "iB"
}
