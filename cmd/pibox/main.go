// Command pibox is chat that a family runs itself: the server and the
// commands that administer it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"pibox/internal/config"
)

// version is set by the linker (see Makefile).
var version = "development"

func main() { os.Exit(run(wired{}, 0)) }

// run is the whole command; it returns the exit code. work is that of a backup's pass phrase (backup.Lock).
func run(p program, work int) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{
		program: p, work: work, in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env: config.OSEnvironment(), now: time.Now,
	}
	return a.execute(ctx, os.Args[1:])
}
