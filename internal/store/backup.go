package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

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

// ErrDamaged: the file is no database of pibox, or it is damaged or incomplete.
var ErrDamaged = errors.New("it is damaged, incomplete, or no pibox store")

// Check reads a store's file whole, without changing it. The error is ErrDamaged where it can not be used. A damaged page can also make bbolt
// panic in a goroutine of its own, which ends the process: files that are not known to be good are checked in a child process.
func Check(path string) (err error) {
	// A page that the file does not have is a bus error: with this a panic, in this goroutine.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Errorf("%v", p))
		}
	}()
	info, err := os.Stat(path)
	if err != nil {
		return explain(path, err)
	}
	if least := int64(2 * boltOptions().PageSize); info.Size() < least {
		return damaged(path, fmt.Errorf("it has %d bytes, fewer than the %d of an empty one", info.Size(), least))
	}
	readAhead(path, info.Size())
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: boltOptions().Timeout})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return damaged(path, err)
	case err != nil:
		return explain(path, err)
	}
	err = db.View(func(b *bolt.Tx) error { return checkPages(path, b, info.Size()) })
	return errors.Join(err, db.Close())
}

// readAhead reads a file from its beginning to its end, so that the kernel has it when its pages are visited, here and when it is opened: bbolt asks
// for each page by itself, which takes a card ten times as long. A file that would push itself out of memory is left alone.
func readAhead(path string, size int64) {
	var have syscall.Sysinfo_t
	if err := syscall.Sysinfo(&have); err != nil || uint64(size) > uint64(have.Totalram)*uint64(have.Unit)/2 {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	type plain struct{ io.Writer } // without ReadFrom, whose buffer is small
	_, _ = io.CopyBuffer(plain{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
}

// checkPages reads every page and every record.
func checkPages(path string, b *bolt.Tx, size int64) error {
	if b.Size() > size {
		return damaged(path, fmt.Errorf("it has %d bytes of %d", size, b.Size()))
	}
	switch _, err := schemaOf(b); {
	case errors.Is(err, errForeign):
		return damaged(path, err)
	case err != nil:
		return explain(path, err)
	}
	for err := range b.Check() {
		return damaged(path, err)
	}
	sum := crc32.NewIEEE() // it is not compared: to be computed, every byte has to be there
	err := b.ForEach(func(table []byte, bucket *bolt.Bucket) error {
		return bucket.ForEach(func(k, v []byte) error {
			_, _ = sum.Write(k)
			_, _ = sum.Write(v)
			if err := checkLogRecord(string(table), k, v); err != nil {
				return fmt.Errorf("table %s, key %q: %w", table, k, err)
			}
			return nil
		})
	})
	if err != nil {
		return damaged(path, err)
	}
	return nil
}

// checkLogRecord tells whether a record of the log's tables can be read.
func checkLogRecord(table string, k, v []byte) (err error) {
	switch table {
	case logTable.name, logTail.name:
		var h head
		if h, err = readHead(v); err == nil {
			_, err = h.walk(func(_, _ []byte, _ Role) {})
		}
		if err == nil && len(k) != 8 {
			err = errEntry
		}
	case string(ownedIndex), string(withIndex):
		_, err = decodeChunk(nil, SeqOf(string(k)), v)
	case logAccounts.name:
		err = new(logAccount).UnmarshalBinary(v)
	case Progress.name:
		err = new(Count).UnmarshalBinary(v)
	}
	return err
}

func damaged(path string, why error) error {
	return fmt.Errorf("store %s: %w (%w); it was left as it is: restore a backup with `pibox restore`", path, ErrDamaged, why)
}

// ErrInUse: a running daemon has the file.
var ErrInUse = bolterrors.ErrTimeout

// Lock holds a database file as a running daemon does, so that nobody else opens it. The error is ErrInUse while one does.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, explain(path, ErrInUse)
	}
	return func() { _ = f.Close() }, nil
}
