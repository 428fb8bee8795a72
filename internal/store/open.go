package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// is32bit: a 32-bit box has no address space for a large map.
const is32bit = strconv.IntSize == 32

// MaxSize is how large the database can become, in bytes; 0: as large as the disk.
func MaxSize() int64 {
	if is32bit {
		return 1 << 30
	}
	return 0
}

func boltOptions() *bolt.Options {
	o := &bolt.Options{
		Timeout:  2 * time.Second, // another daemon holds the file
		PageSize: 4096,            // a Pi 5 kernel has 16 KiB pages: four times the bytes per commit
		// The free list is rebuilt by a scan when opening instead of being written with each commit (docs/decisions.md).
		NoFreelistSync:  true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: 256 << 20,
	}
	if is32bit {
		o.MaxSize = int(MaxSize())
	} else {
		o.InitialMmapSize <<= 6 // 16 GiB of address space: growing beyond it waits for all readers
	}
	return o
}

// Open opens the store's file, or makes it. A file of an older schema is migrated in one transaction, and a copy of it stays beside
// until DropBefore; a newer (ErrNewer) or foreign one is refused unchanged.
func Open(path string, opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Reserve == 0 {
		opt.Reserve = 32 << 20
	}
	if opt.QueueBytes == 0 {
		opt.QueueBytes = 8 << 20
	}
	if opt.OnFailure == nil {
		opt.OnFailure = func(error) {}
	}
	if opt.FreeSpace == nil {
		opt.FreeSpace = freeSpace
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, explain(path, err)
		}
	}
	db, err := openFile(path, opt)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, opt: opt, log: opt.Log, db: db,
		room: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go s.commitLoop()
	return s, nil
}

// Close commits what is queued, writes the free list, and closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	<-s.done
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db, s.down = nil, ErrClosed
	// With the free list on disk the next start needs no scan of all pages.
	db.NoFreelistSync = false
	err := db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(metaTable.name)).Put([]byte("closed"), []byte("true"))
	})
	return errors.Join(err, db.Close())
}

// create makes a new file under a temporary name, with its schema, and renames it: a power cut meanwhile leaves no
// half-made file behind (etcd-io/bbolt issue 567).
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, boltOptions())
	if err != nil {
		return err
	}
	err = db.Update(func(b *bolt.Tx) error { return migrate(b, 0) })
	if err := errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes a rename in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func openFile(path string, opt Options) (*bolt.DB, error) {
	if err := notEmpty(path); err != nil {
		return nil, explain(path, err)
	}
	db, err := bolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return nil, explain(path, err)
	}
	if err := upgrade(db, opt); err != nil {
		_ = db.Close()
		return nil, explain(path, err)
	}
	return db, nil
}

// notEmpty: bbolt would make a store of an empty file, which may be all that a failing card gives back.
func notEmpty(path string) error {
	fi, err := os.Stat(path)
	if err == nil && fi.Size() == 0 {
		return fmt.Errorf("the file is empty: %w", bolterrors.ErrInvalid)
	}
	return err
}

// upgrade brings the file to this version's schema, in one transaction, and keeps a copy of what it was.
func upgrade(db *bolt.DB, opt Options) error {
	var have int
	if err := db.View(func(b *bolt.Tx) (err error) {
		have, err = schemaOf(b)
		return err
	}); err != nil {
		return err
	}
	if have == len(migrations) {
		return nil
	}
	if err := keepBefore(db, have, opt); err != nil {
		return err
	}
	return db.Update(func(b *bolt.Tx) error { return migrate(b, have) })
}

// explain adds to an error what its reader can do.
func explain(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		hint = "another pibox is using it: stop that one first"
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		hint = "it is damaged or not a pibox store; it was left as it is: move it away and restore a backup with `pibox restore`"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "the disk is full: free some space"
	case errors.Is(err, syscall.EROFS):
		hint = "the file system is read-only: the card may be worn out or damaged"
	case errors.Is(err, fs.ErrPermission):
		hint = "the user that runs pibox may not write there"
	}
	if hint == "" {
		return fmt.Errorf("store %s: %w", path, err)
	}
	return fmt.Errorf("store %s: %w (%s)", path, err, hint)
}

func freeSpace(path string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
