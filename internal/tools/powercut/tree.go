package powercut

import (
	"maps"
	"slices"
	"syscall"
	"time"
)

// What the kernel asks for, by numbers of inodes. All of it can be had without a mount.

// Lookup finds a name in a folder.
func (d *Disk) Lookup(dir uint64, name string) (info Info, errno syscall.Errno) {
	errno = d.read(func() syscall.Errno {
		folder, errno := d.folder(dir)
		if errno != 0 {
			return errno
		}
		ino := folder.names[name]
		if ino == 0 {
			return syscall.ENOENT
		}
		info = d.info(d.inodes[ino])
		return 0
	})
	return info, errno
}

// Info is what stat tells.
type Info struct {
	Ino      uint64
	Mode     uint32 // with the type
	UID, GID uint32
	Size     int64
	Links    uint32
	Modified time.Time
}

// Stat tells about an inode.
func (d *Disk) Stat(ino uint64) (info Info, errno syscall.Errno) {
	errno = d.read(func() syscall.Errno {
		i := d.inodes[ino]
		if i == nil {
			return syscall.ENOENT
		}
		info = d.info(i)
		return 0
	})
	return info, errno
}

func (d *Disk) info(i *inode) Info {
	return Info{Ino: i.ino, Mode: i.mode, UID: i.uid, GID: i.gid, Size: int64(len(i.data)), Links: 1, Modified: i.mtime}
}

func (d *Disk) folder(ino uint64) (*inode, syscall.Errno) {
	switch i := d.inodes[ino]; {
	case i == nil:
		return nil, syscall.ENOENT
	case !i.isDir():
		return nil, syscall.ENOTDIR
	default:
		return i, 0
	}
}

func (d *Disk) file(ino uint64) (*inode, syscall.Errno) {
	switch i := d.inodes[ino]; {
	case i == nil:
		return nil, syscall.ENOENT
	case i.isDir():
		return nil, syscall.EISDIR
	default:
		return i, 0
	}
}

// Make makes a file or a folder, by mode.
func (d *Disk) Make(dir uint64, name string, mode, uid, gid uint32) (info Info, errno syscall.Errno) {
	errno = d.change(func() syscall.Errno {
		folder, errno := d.folder(dir)
		switch {
		case errno != 0:
			return errno
		case folder.names[name] != 0:
			return syscall.EEXIST
		}
		made := d.add(mode)
		made.uid, made.gid = uid, gid
		d.rename(nameChange{dir: dir, name: name, ino: made.ino})
		info = d.info(made)
		return 0
	})
	return info, errno
}

// Link gives a file another name.
func (d *Disk) Link(ino, dir uint64, name string) (info Info, errno syscall.Errno) {
	errno = d.change(func() syscall.Errno {
		file, errno := d.file(ino)
		if errno != 0 {
			return errno
		}
		folder, errno := d.folder(dir)
		switch {
		case errno != 0:
			return errno
		case folder.names[name] != 0:
			return syscall.EEXIST
		}
		d.rename(nameChange{dir: dir, name: name, ino: ino})
		info = d.info(file)
		return 0
	})
	return info, errno
}

// Remove takes a name of a file away or, with folders, that of an empty folder.
func (d *Disk) Remove(dir uint64, name string, folders bool) syscall.Errno {
	return d.change(func() syscall.Errno {
		folder, errno := d.folder(dir)
		if errno != 0 {
			return errno
		}
		i := d.inodes[folder.names[name]]
		switch {
		case i == nil:
			return syscall.ENOENT
		case i.isDir() && !folders:
			return syscall.EISDIR
		case !i.isDir() && folders:
			return syscall.ENOTDIR
		case len(i.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.rename(nameChange{dir: dir, name: name, gone: i.ino})
		return 0
	})
}

// Rename gives a file or folder another name, instead of a file or empty folder that has it, or not if keep.
func (d *Disk) Rename(fromDir uint64, from string, dir uint64, name string, keep bool) syscall.Errno {
	return d.change(func() syscall.Errno {
		old, errno := d.folder(fromDir)
		if errno != 0 {
			return errno
		}
		folder, errno := d.folder(dir)
		if errno != 0 {
			return errno
		}
		ino, there := old.names[from], d.inodes[folder.names[name]]
		switch {
		case ino == 0:
			return syscall.ENOENT
		case there != nil && there.ino == ino:
			return 0
		case there != nil && keep:
			return syscall.EEXIST
		case there != nil && there.isDir() != d.inodes[ino].isDir():
			return syscall.EINVAL
		case there != nil && len(there.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.rename(nameChange{dir: dir, name: name, ino: ino, fromDir: fromDir, fromName: from})
		return 0
	})
}

// Entry is a name in a folder.
type Entry struct {
	Name string
	Ino  uint64
	Mode uint32
}

// List gives the names in a folder, in order.
func (d *Disk) List(dir uint64) (entries []Entry, errno syscall.Errno) {
	errno = d.read(func() syscall.Errno {
		folder, errno := d.folder(dir)
		if errno != 0 {
			return errno
		}
		for _, name := range slices.Sorted(maps.Keys(folder.names)) {
			ino := folder.names[name]
			entries = append(entries, Entry{name, ino, d.inodes[ino].mode})
		}
		return 0
	})
	return entries, errno
}

// ReadAt reads what is seen of a file.
func (d *Disk) ReadAt(ino uint64, b []byte, at int64) (n int, errno syscall.Errno) {
	errno = d.read(func() syscall.Errno {
		file, errno := d.file(ino)
		if errno == 0 && at < int64(len(file.data)) {
			n = copy(b, file.data[at:])
		}
		return errno
	})
	return n, errno
}

// WriteAt writes; with sync it is durable at once (O_SYNC, O_DSYNC).
func (d *Disk) WriteAt(ino uint64, b []byte, at int64, sync bool) syscall.Errno {
	errno := d.change(func() syscall.Errno {
		file, errno := d.file(ino)
		if errno == 0 && len(b) > 0 {
			file.write(d.next(), at, b)
		}
		return errno
	})
	if errno == 0 && sync {
		return d.Sync(ino)
	}
	return errno
}

// Truncate gives a file a size.
func (d *Disk) Truncate(ino uint64, size int64) syscall.Errno {
	return d.change(func() syscall.Errno {
		file, errno := d.file(ino)
		if errno == 0 {
			file.resize(d.next(), size)
		}
		return errno
	})
}

// SetMode changes permissions; SetOwner who has it.
func (d *Disk) SetMode(ino uint64, mode uint32) syscall.Errno {
	return d.attribute(ino, func(i *inode) { i.mode = i.mode&syscall.S_IFMT | mode&0o7777 })
}

// SetOwner changes who has it.
func (d *Disk) SetOwner(ino uint64, uid, gid uint32) syscall.Errno {
	return d.attribute(ino, func(i *inode) { i.uid, i.gid = uid, gid })
}

// SetModified changes the time of the last change.
func (d *Disk) SetModified(ino uint64, t time.Time) syscall.Errno {
	return d.attribute(ino, func(i *inode) { i.mtime = t })
}

func (d *Disk) attribute(ino uint64, set func(*inode)) syscall.Errno {
	return d.read(func() syscall.Errno {
		i := d.inodes[ino]
		if i == nil {
			return syscall.ENOENT
		}
		set(i)
		return 0
	})
}

// Sync makes durable what was changed before the call: the bytes of a file, or the names in a folder. It takes as long as Latency says.
func (d *Disk) Sync(ino uint64) syscall.Errno {
	upTo := 0
	errno := d.change(func() syscall.Errno {
		upTo = d.seq
		if d.inodes[ino] == nil {
			return syscall.ENOENT
		}
		return 0
	})
	if errno != 0 {
		return errno
	}
	if d.Latency != nil {
		time.Sleep(d.Latency())
	}
	return d.change(func() syscall.Errno {
		if i := d.inodes[ino]; i.isDir() {
			d.syncNames(ino, upTo)
		} else {
			i.sync(upTo)
		}
		return 0
	})
}
