package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
)

// installFolder, in the data folder, is there while a whole box that was checked takes the place of the one that is there: the folder appears by a
// rename, and what is in it goes to its place by renames. A power cut in between is made good at the next start.
const installFolder = "installing"

// placed tells what Install did.
type placed struct {
	kept map[string]string // by name: where what was there is now
}

// install puts everything in the installFolder in its place, and keeps what is there beside. The database is last. Without the folder there is nothing
// to do.
func install(dir string) (done placed, err error) {
	from := filepath.Join(dir, installFolder)
	list, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return done, err
	}
	slices.SortStableFunc(list, func(a, b fs.DirEntry) int { return rankOf(a) - rankOf(b) })
	done.kept = map[string]string{}
	for _, e := range list {
		target := filepath.Join(dir, e.Name())
		kept, err := keep(target)
		if err != nil {
			return done, fmt.Errorf("the old %s can not be kept under another name: %w", e.Name(), err)
		}
		if kept != "" {
			done.kept[e.Name()] = kept
		}
		if err := os.Rename(filepath.Join(from, e.Name()), target); err != nil {
			return done, err
		}
	}
	if err := store.SyncDir(dir); err != nil {
		return done, err
	}
	return done, errors.Join(os.Remove(from), store.SyncDir(dir))
}

func rankOf(e fs.DirEntry) int {
	if e.Name() == StoreFile {
		return 1
	}
	return 0
}

// keep moves what is at path to a name that tells the time; "" where nothing is there. A database stays under its own name, too, until another one
// takes it: with none at all the next start would make an empty box.
func keep(path string) (kept string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	stamp := time.Now().UTC().Format("20060102T150405Z")
	name := path + ".before-" + stamp
	for n := 2; ; n++ {
		kept = name
		if filepath.Base(path) == StoreFile {
			err = os.Link(path, kept)
		} else if _, lerr := os.Lstat(kept); lerr == nil {
			err = fs.ErrExist
		} else {
			err = os.Rename(path, kept)
		}
		if !errors.Is(err, fs.ErrExist) {
			return kept, err
		}
		name = fmt.Sprintf("%s.before-%s-%d", path, stamp, n)
	}
}

// settleFiles gives everything under from the owner of dir (root restores, the box's own user serves), and makes it durable.
func settleFiles(dir, from string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
		return store.SyncDir(path) // of a file, too
	})
}

// lockFolder keeps all others of ours from the data folder, also while there is no database in it. The error is ErrRunning while somebody else has it.
func lockFolder(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, mayNot(err, "read", dir)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(ErrRunning(), f.Close())
	case err != nil:
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// takeUp finishes what a stop left half.
func takeUp(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	unlock, err := lockFolder(cfg.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errBusyFolder(err)
	}
	defer unlock()
	if _, err := install(cfg.DataDir); err != nil {
		return fmt.Errorf("what was restored can not be put in its place: %w", err)
	}
	if err := resumeFetch(ctx, cfg, log); err != nil {
		return err
	}
	removeLeftovers(cfg)
	return nil
}

// errBusyFolder is for the daemon, which has no other one beside it.
func errBusyFolder(err error) error {
	var known *admin.Error
	if errors.As(err, &known) && known.Code == admin.CodeRunning {
		return errors.New("a restore or a transfer goes on in this folder: the box serves when that is done")
	}
	return err
}
