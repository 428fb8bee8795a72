package card

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sector is what a card writes whole or not at all, in bytes.
const sector = 512

// disk is how durable things change. Each call returns when its effect is durable; a power cut within it leaves what is told.
type disk interface {
	// Replace gives a file new content, by another file and a rename: the old content or the new one. Not for FAT.
	Replace(path string, data []byte, mode fs.FileMode) error
	// Link is Replace for a symbolic link.
	Link(target, path string) error
	// Overwrite changes a file in place: each sector is old or new. It is made where it is missing: then it may be empty or in part zero.
	Overwrite(path string, data []byte) error
	// Remove removes a file; none there is no mistake.
	Remove(path string) error
}

type osDisk struct{}

// partSuffix ends the name of a file that is not complete.
const partSuffix = ".part"

func (osDisk) Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+partSuffix))
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (osDisk) Link(target, path string) error {
	if err := os.Remove(path + partSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, path+partSuffix); err != nil {
		return err
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (osDisk) Overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	old := make([]byte, len(data))
	n, err := f.ReadAt(old, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	for at := 0; at < len(data) && err == nil; at += sector { // what is equal is not written
		part := data[at:min(at+sector, len(data))]
		if at+len(part) > n || !bytes.Equal(part, old[at:at+len(part)]) {
			_, err = f.WriteAt(part, int64(at))
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (osDisk) Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// maxFile bounds what is read of a file that a person or the daemon wrote, in bytes.
const maxFile = 256 << 10

var errTooLarge = errors.New("the file is too large")

// read reads a small file that no link leads to: what lies in the daemon's folder, or on the card, may be anything.
func read(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("this is no file")
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errTooLarge
	}
	return data, err
}

// replaceChanged is Replace where something changes.
func (c *Card) replaceChanged(path string, data []byte, mode fs.FileMode) error {
	if old, err := read(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return c.disk.Replace(path, data, mode)
}

// named finds the files of a folder that have one of the names, in any case, as FAT may show them; in the order of the names.
func named(dir string, names ...string) (paths []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, name := range names {
		for _, e := range list {
			if strings.EqualFold(e.Name(), name) && e.Type().IsRegular() {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	return paths
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
