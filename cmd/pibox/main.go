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

func main() { os.Exit(run(unwired{})) }

// run is the whole program around a box; it returns the exit code.
func run(b box) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{
		box: b, in: os.Stdin, out: os.Stdout, err: os.Stderr,
		env: config.OSEnvironment(), now: time.Now,
	}
	return a.execute(ctx, os.Args[1:])
}
