package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Backup writes a consistent copy of the database to path while the store goes on. The file is complete, readable only by its owner (it
// holds SCRAM keys) and synced when it appears under that name; an existing one is not touched.
func (s *Store) Backup(path string) error {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return s.unavailable()
	}
	return install(path, func(tmp string) error {
		return s.db.View(func(b *bolt.Tx) error { return b.CopyFile(tmp, 0o600) })
	})
}

// Restore puts the database of a backup where there is none yet. The backup is checked whole first.
func Restore(backup, path string) error {
	if err := Check(backup); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return install(path, func(tmp string) error {
		src, err := bolt.Open(backup, 0o400, &bolt.Options{ReadOnly: true})
		if err != nil {
			return explain(backup, err)
		}
		err = src.View(func(b *bolt.Tx) error { return b.CopyFile(tmp, 0o600) })
		return errors.Join(err, src.Close(), newEpoch(tmp))
	})
}

// newEpoch tells clients that the versions they were given since the backup mean nothing any more.
func newEpoch(path string) error {
	db, err := bolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b, writable: true}
		raw, err := json.Marshal(rand.Text())
		Settings.Put(tx, SettingEpoch, raw)
		return errors.Join(err, tx.err)
	})
	return errors.Join(err, db.Close())
}

// install lets a file appear whole: temporary name, check, sync, rename, sync of the folder.
func install(path string, write func(tmp string) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	tmp := path + ".part"
	defer func() { _ = os.Remove(tmp) }()
	if err := write(tmp); err != nil {
		return err
	}
	if err := Check(tmp); err != nil {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp, path); err != nil { // unlike rename it never replaces
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Check reads a store's file whole, without changing it. A damaged page can make bbolt panic in a goroutine of its own: a daemon
// calls it in a child process before it opens the file.
func Check(path string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("store %s: it is damaged (%v); it was left as it is: move it away and restore a backup with `pibox restore`", path, p)
		}
	}()
	if err := notEmpty(path); err != nil {
		return explain(path, err)
	}
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: boltOptions().Timeout})
	if err != nil {
		return explain(path, err)
	}
	err = db.View(func(b *bolt.Tx) error {
		if _, err := schemaOf(b); err != nil {
			return err
		}
		for err := range b.Check() {
			return fmt.Errorf("%w: %w", bolterrors.ErrInvalid, err)
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return explain(path, err)
	}
	return nil
}

// Lock holds a database file as a running daemon does, so that nobody else opens it.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, explain(path, bolterrors.ErrTimeout)
	}
	return func() { _ = f.Close() }, nil
}

// CountAccounts reads a database file that nobody serves.
func CountAccounts(path string) (n int, err error) {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, Timeout: boltOptions().Timeout})
	if err != nil {
		return 0, explain(path, err)
	}
	err = db.View(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b}
		for range Accounts.All(tx) {
			n++
		}
		return tx.err
	})
	return n, errors.Join(err, db.Close())
}
