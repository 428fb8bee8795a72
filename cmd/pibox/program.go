package main

import (
	"context"
	"io"

	"pibox/internal/config"
)

// program is what stands behind the commands that do not talk to a running one.
type program interface {
	// Serve runs the daemon until ctx ends. It returns nil after a clean
	// stop, and an *admin.Error (CodeRunning) when another daemon has the
	// socket. What the person at the terminal must see once, such as the way
	// in for the first administrator, goes to out; the log does not.
	Serve(ctx context.Context, cfg config.Config, out io.Writer) error
	// Restore makes the backup the database in cfg.DataDir while
	// no daemon runs; it holds the lock of the database file meanwhile. The
	// backup is checked whole before anything is replaced, and files get the
	// owner of the folder. Without replace, a database that is there is left
	// alone and the error is CodeExists; with it, the old one is kept beside
	// under another name.
	Restore(ctx context.Context, cfg config.Config, in backupFile, replace bool) (restored, error)
}

// backupFile is a backup that is being read; name is for the person.
type backupFile struct {
	io.Reader
	name string
}

// restored tells what Restore did.
type restored struct {
	Path   string `json:"path"`
	Kept   string `json:"kept,omitempty"` // where the database that was there is now
	Schema int    `json:"schema"`
	Users  int    `json:"users"`
}
