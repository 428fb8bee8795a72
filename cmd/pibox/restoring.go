package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
)

// Restore implements program. At any moment, also when the power fails, the
// database is the old one or the whole new one: with none in between, the next
// start would make an empty box. The backup is read in a child process: what is
// damaged may end the process that reads it.
func (wired) Restore(ctx context.Context, cfg config.Config, in backupFile, replace bool) (done restored, err error) {
	path := box.StorePath(cfg)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return done, mayNot(err, "write to", cfg.DataDir)
	}
	unlock, err := lockStore(path, replace)
	if err != nil {
		return done, err
	}
	defer unlock()
	box.RemoveLeft(cfg.DataDir, box.RestorePrefix)
	work, err := os.MkdirTemp(cfg.DataDir, box.RestorePrefix)
	if err != nil {
		return done, mayNot(err, "write to", cfg.DataDir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	copied, checked := filepath.Join(work, "backup"), filepath.Join(work, box.StoreFile)
	if err := writeDurably(copied, func(w io.Writer) error { _, err := io.Copy(w, in); return err }); err != nil {
		return done, err
	}
	done.Users, err = box.PrepareRestore(ctx, copied, checked)
	switch {
	case errors.Is(err, store.ErrDamaged):
		return done, admin.Errorf(admin.CodeInvalid, "%s is damaged or incomplete; nothing was changed", in.name).Then("Try another backup.")
	case err != nil:
		return done, admin.Errorf(admin.CodeInvalid, "this is no backup that can be used: %s", strings.ReplaceAll(err.Error(), copied, in.name))
	}
	if err := ownAs(cfg.DataDir, checked); err != nil {
		return done, err
	}
	if exists(path) {
		if done.Kept, err = keep(path); err != nil {
			return done, fmt.Errorf("the old database can not be kept under another name: %w", err)
		}
	}
	if err := os.Rename(checked, path); err != nil {
		return done, err
	}
	done.Path, done.Schema = path, store.Schema()
	return done, store.SyncDir(cfg.DataDir)
}

// keep gives a file a second name that tells the time.
func keep(path string) (kept string, err error) {
	name := path + ".before-" + time.Now().UTC().Format(timeInName)
	for n := 2; ; n++ {
		kept = name
		if err := os.Link(path, kept); !errors.Is(err, fs.ErrExist) {
			return kept, err
		}
		name = fmt.Sprintf("%s.before-%s-%d", path, time.Now().UTC().Format(timeInName), n)
	}
}

// lockStore keeps a daemon from opening the database that is there. A daemon
// that has it open is found even where its admin socket is not.
func lockStore(path string, replace bool) (unlock func(), err error) {
	_, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, mayNot(err, "read", path)
	}
	unlock, err = store.Lock(path)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, errRunning()
	case err != nil:
		return nil, mayNot(err, "write to", path)
	case !replace:
		unlock()
		return nil, admin.Errorf(admin.CodeExists, "%s is there already", path).
			Then("With --replace it is kept beside under another name.")
	}
	return unlock, nil
}

func errRunning() *admin.Error {
	return admin.Errorf(admin.CodeRunning, "the server is running").
		Then("Stop it first, with 'systemctl stop pibox' or Ctrl-C where it runs.")
}

// mayNot tells a person whom the system refused what to do; other errors it leaves alone.
func mayNot(err error, what, path string) error {
	var known *admin.Error
	if !errors.Is(err, fs.ErrPermission) || errors.As(err, &known) {
		return err
	}
	return admin.Errorf(admin.CodeForbidden, "this user may not %s %s", what, path).
		Then("Use sudo, or run the command as the user the box runs as: 'sudo -u pibox pibox …'.")
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
