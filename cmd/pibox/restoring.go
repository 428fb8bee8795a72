package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
)

// Restore implements program. At any moment, also when the power fails, the
// database is the old one or the whole new one: with none in between, the next
// start would make an empty box.
func (wired) Restore(_ context.Context, cfg config.Config, r io.Reader, replace bool) (done restored, err error) {
	path := box.StorePath(cfg)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return done, err
	}
	unlock, err := lockStore(path, replace)
	if err != nil {
		return done, err
	}
	defer unlock()
	work, err := os.MkdirTemp(cfg.DataDir, "restore-")
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	copied, checked := filepath.Join(work, "backup"), filepath.Join(work, box.StoreFile)
	if err := writeDurably(copied, func(w io.Writer) error { _, err := io.Copy(w, r); return err }); err != nil {
		return done, err
	}
	if err := store.Restore(copied, checked); err != nil {
		return done, admin.Errorf(admin.CodeInvalid, "this is no backup that can be used: %v", err)
	}
	if done.Users, err = store.CountAccounts(checked); err != nil {
		return done, err
	}
	if err := ownAs(cfg.DataDir, checked); err != nil {
		return done, err
	}
	if exists(path) {
		done.Kept = path + ".before-" + time.Now().UTC().Format(timeInName)
		if err := os.Link(path, done.Kept); err != nil {
			return done, fmt.Errorf("the old database can not be kept under another name: %w", err)
		}
	}
	if err := os.Rename(checked, path); err != nil {
		return done, err
	}
	done.Path, done.Schema = path, store.Schema()
	return done, store.SyncDir(cfg.DataDir)
}

// lockStore keeps a daemon from opening the database that is there. A daemon
// that has it open is found even where its admin socket is not.
func lockStore(path string, replace bool) (unlock func(), err error) {
	_, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, err
	case !replace:
		return nil, admin.Errorf(admin.CodeExists, "%s is there already", path).
			Then("With --replace it is kept beside under another name.")
	}
	return store.Lock(path)
}

// ownAs gives a file the owner of its folder: root restores, the box's own user serves.
func ownAs(dir, path string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
