package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
)

// wired is the program: internal/box behind the commands.
type wired struct{}

func (wired) Serve(ctx context.Context, cfg config.Config, out io.Writer) error {
	return box.Serve(ctx, cfg, version, newLog(cfg.Log), out)
}

func newLog(cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // the configuration allows only names that are understood
	opt := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// Restore copies the backup beside the database, checks it whole, and only then puts it in place.
func (wired) Restore(_ context.Context, cfg config.Config, r io.Reader, replace bool) (done restored, err error) {
	path := box.StorePath(cfg)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return done, err
	}
	old := path + ".before-" + time.Now().UTC().Format("20060102T150405Z")
	unlock := func() {}
	if _, err := os.Stat(path); err == nil {
		if !replace {
			return done, admin.Errorf(admin.CodeExists, "%s is there already", path).
				Then("With --replace it is kept beside under another name.")
		}
		if unlock, err = store.Lock(path); err != nil {
			return done, err
		}
	}
	defer func() { unlock() }()
	copied := filepath.Join(cfg.DataDir, "restore.tmp")
	defer func() { _ = os.Remove(copied) }()
	if err := copyTo(copied, r); err != nil {
		return done, err
	}
	if err := store.Check(copied); err != nil {
		return done, admin.Errorf(admin.CodeInvalid, "this is no backup that can be used: %v", err)
	}
	if replace {
		switch err := os.Rename(path, old); {
		case err == nil:
			done.Kept = old
		case !errors.Is(err, fs.ErrNotExist):
			return done, err
		}
	}
	if err := store.Restore(copied, path); err != nil {
		if done.Kept != "" {
			err = errors.Join(err, os.Rename(old, path))
		}
		return done, err
	}
	if err := ownAs(cfg.DataDir, path); err != nil {
		return done, err
	}
	done.Path, done.Schema = path, store.Schema()
	done.Users, err = store.CountAccounts(path)
	return done, err
}

func copyTo(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// ownAs gives a file the owner of its folder: root restores, the box's own user serves.
func ownAs(dir, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := owner(dir)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// checkStoreCmd is how the daemon tries its database before it opens it; a damaged page may end the process that reads it.
func checkStoreCmd() *cobra.Command {
	return &cobra.Command{
		Use: "check-store FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := store.Check(args[0]); err != nil {
				return fmt.Errorf("%w", err)
			}
			return nil
		},
	}
}
