package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// The copy of a file as it was before its migration is there for as long as nobody was served from the migrated one: whoever serves calls
// DropBefore first. So an older pibox that finds it may take it back, and nothing that was acknowledged is lost.
const beforeMark = ".schema-"

func beforePath(path string, schema int) string { return path + beforeMark + strconv.Itoa(schema) }

const unfinished = ".new"

// beforePaths are the copies of all schemas, a newer pibox's too; and those that a power cut left half.
func beforePaths(path string) (whole, half []string, err error) {
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	for _, e := range all {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+beforeMark)
		number, isHalf := strings.CutSuffix(rest, unfinished)
		if _, err := strconv.Atoi(number); !ok || err != nil {
			continue
		}
		if p := filepath.Join(filepath.Dir(path), e.Name()); isHalf {
			half = append(half, p)
		} else {
			whole = append(whole, p)
		}
	}
	return whole, half, nil
}

// keepBefore copies a file that is to be migrated. A copy from an earlier try is older than the file may be by now, and is replaced.
func keepBefore(db *bolt.DB, schema int, opt Options) error {
	path := beforePath(db.Path(), schema)
	tmp := path + unfinished
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := roomBefore(db, path, opt); err != nil {
		if opt.WayBack {
			return err
		}
		opt.Log.Warn("store: migrating without a copy of the file as it was", "error", err)
		return DropBefore(db.Path())
	}
	err := db.View(func(b *bolt.Tx) error { return b.CopyFile(tmp, 0o600) })
	if err == nil {
		err = SyncDir(tmp) // the file itself
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("no copy of the file can be kept: %w", err), ignoreMissing(os.Remove(tmp)))
	}
	return SyncDir(filepath.Dir(path))
}

func roomBefore(db *bolt.DB, path string, opt Options) error {
	info, err := os.Stat(db.Path())
	if err != nil {
		return err
	}
	free, err := opt.FreeSpace(filepath.Dir(path))
	if err != nil {
		return err
	}
	// Twice: the migration may write as much again.
	if need := 2*info.Size() + opt.Reserve; free < need {
		return fmt.Errorf("the disk has no room for a migration with a way back: it takes up to %d MiB, %d MiB are free: free some space", need>>20, free>>20)
	}
	return nil
}

// Unserved tells whether the file was migrated and nobody was served from it since.
func Unserved(path string) (bool, error) {
	whole, _, err := beforePaths(path)
	return len(whole) > 0, err
}

// DropBefore removes the copies, durably: from now on somebody may be served.
func DropBefore(path string) error {
	whole, half, err := beforePaths(path)
	if err != nil || len(whole)+len(half) == 0 {
		return err
	}
	for _, p := range slices.Concat(whole, half) {
		if err := ignoreMissing(os.Remove(p)); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(path))
}

// Before is the copy of a newer file as it was when this version's schema was the last one: "" where there is none. It is to be checked
// before it is taken.
func Before(path string) string {
	if p := beforePath(path, Schema()); exists(p) {
		return p
	}
	return ""
}

// TakeBefore puts that copy in the place of the file.
func TakeBefore(path string) error {
	if err := os.Rename(beforePath(path, Schema()), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
