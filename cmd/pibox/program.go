package main

import (
	"context"
	"io"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/update"
)

// program is what stands behind the commands that do not talk to a running one.
type program interface {
	// Serve runs the daemon until ctx ends. It returns nil after a clean
	// stop, and an *admin.Error (CodeRunning) when another daemon has the
	// socket. What the person at the terminal must see once, such as the way
	// in for the first administrator, goes to out; the log does not.
	Serve(ctx context.Context, cfg config.Config, source box.ConfigSource, out io.Writer) error
	// Restore is box.Restore.
	Restore(ctx context.Context, cfg config.Config, in box.Source) (box.Restored, error)
	// Fetch is box.Fetch.
	Fetch(ctx context.Context, cfg config.Config, req box.FetchRequest) (box.Restored, error)
	// Place is where the card's system has its parts.
	Place() update.Place
}
