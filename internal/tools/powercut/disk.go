// Package powercut is a disk that knows what a power cut would leave of it: a file system in memory, mounted by FUSE, in which everything that was
// written and not yet synced is kept apart.
//
// What is promised to a program is what POSIX and a card promise, and no more:
//
//   - fsync and fdatasync of a file make its bytes and its size durable, those of before the call; not its name.
//   - fsync of a folder makes what happened to the names in it durable: creating, linking, renaming, removing.
//   - A rename is atomic. Apart from that nothing is in any order that no sync separates.
//
// After Cut nothing comes to its end any more. Survivor then gives the disk that one finds when the power is back: all that was synced and,
// drawn by lot, nothing, everything, the beginning, or any subset of the rest: of the writes by sectors of 512 bytes, each of them in any of the
// versions that were written to it (so writes are torn and reordered); of the changes of size; of those to the names in folders. A sync
// that had not returned is one that did not happen: what it was to make durable is drawn by lot, too.
//
// It is stricter than the ext4 that a box has (there, one fsync takes all earlier changes of names along, in order), and milder than a broken card:
// a sector is whole, and what was synced stays. Modes, owners and times are durable at once. sync(2) does nothing.
//
// A program that maps files of the disk has to be another process than the one that serves it: a page fault can not be answered by a
// process whose threads the garbage collector is about to stop.
package powercut

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

// Root is the number of the disk's folder.
const Root = 1

// Disk is one disk, in memory. Its methods may be called from any goroutine.
type Disk struct {
	// Latency tells how long a sync takes, in which the power may be cut. nil: no time. Set before the disk is used.
	Latency func() time.Duration

	mu      sync.Mutex
	back    *sync.Cond // told when what waits is to fail
	off     bool       // the power is cut
	failed  bool       // and what waited for it has failed
	cut     chan struct{}
	left    int // changes until the power is cut; 0: not by number
	changes int

	inodes  map[uint64]*inode
	last    uint64 // number of the last inode
	seq     int    // of the last change
	renames []nameChange
}

// New makes an empty disk.
func New() *Disk {
	d := &Disk{cut: make(chan struct{}), inodes: map[uint64]*inode{}, last: Root}
	d.back = sync.NewCond(&d.mu)
	d.inodes[Root] = newInode(Root, syscall.S_IFDIR|0o700)
	return d
}

// Cut cuts the power: no operation comes to its end any more. The processes that use the disk have to be killed now, before Release.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.powerOff()
}

// CutAfter cuts the power by itself when n more changes were made; see Changes.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// WhenCut is closed when the power is cut.
func (d *Disk) WhenCut() <-chan struct{} { return d.cut }

// Release lets every operation that waits since the cut, and every later one, fail.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.powerOff()
	d.failed = true
	d.back.Broadcast()
}

func (d *Disk) powerOff() {
	if !d.off {
		d.off = true
		close(d.cut)
	}
}

// Changes is how many there were: writes, changes of size and of names; the beginning and the end of a sync.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes
}

// read runs an operation that changes nothing, if there is power.
func (d *Disk) read(op func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.powered(op)
}

// change runs one that does.
func (d *Disk) change(op func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left > 0 && !d.off {
		if d.left--; d.left == 0 {
			d.powerOff()
		}
	}
	d.changes++
	return d.powered(op)
}

func (d *Disk) powered(op func() syscall.Errno) syscall.Errno {
	for d.off && !d.failed {
		d.back.Wait()
	}
	if d.failed {
		return syscall.EIO
	}
	return op()
}

// Load makes a disk of what is in a folder, all of it durable. Only folders and plain files are taken.
func Load(dir string) (*Disk, error) {
	d := New()
	return d, d.load(Root, dir)
}

func (d *Disk) load(ino uint64, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		path, mode := filepath.Join(dir, e.Name()), uint32(info.Mode().Perm())
		switch {
		case info.IsDir():
			child := d.add(syscall.S_IFDIR | mode)
			d.inodes[ino].place(e.Name(), child.ino)
			if err := d.load(child.ino, path); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			child := d.add(syscall.S_IFREG | mode)
			child.data, child.synced = raw, slices.Clone(raw)
			d.inodes[ino].place(e.Name(), child.ino)
		}
	}
	return nil
}

// Save writes what is durable into a folder, which it makes.
func (d *Disk) Save(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.save(d.inodes[Root], dir)
}

func (d *Disk) save(folder *inode, dir string) error {
	if err := os.MkdirAll(dir, fs.FileMode(folder.mode&0o777)|0o700); err != nil {
		return err
	}
	for name, ino := range folder.syncedNames {
		child, path := d.inodes[ino], filepath.Join(dir, name)
		if child.isDir() {
			if err := d.save(child, path); err != nil {
				return err
			}
			continue
		}
		if err := writeSparse(path, child.synced, fs.FileMode(child.mode&0o777)); err != nil {
			return err
		}
	}
	return nil
}

// writeSparse leaves out what is nothing but zeros: a database file grows by 16 MiB at a time.
func writeSparse(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	at := int64(0)
	for block := range slices.Chunk(data, 1<<16) {
		if slices.ContainsFunc(block, func(b byte) bool { return b != 0 }) {
			if _, err := f.WriteAt(block, at); err != nil {
				return err
			}
		}
		at += int64(len(block))
	}
	return nil
}
