package powercut

import (
	"slices"
	"syscall"
	"time"
)

// inode is a file or a folder, as the running system sees it and as it is on the medium.
type inode struct {
	ino   uint64
	mode  uint32
	uid   uint32
	gid   uint32
	mtime time.Time

	data    []byte // of a file, as it is seen
	synced  []byte // and as it is durable
	pending []bytesChange

	names       map[string]uint64 // of a folder, as they are seen
	syncedNames map[string]uint64 // and as they are durable
}

// bytesChange is a change to a file that is not durable yet: bytes at an offset or, without any, a size.
type bytesChange struct {
	seq   int
	at    int64
	bytes []byte
}

// nameChange is one to the names in folders: at name in dir there is ino now (0: nothing); was, if not 0, left fromName in fromDir for it.
type nameChange struct {
	seq      int
	dir      uint64
	name     string
	ino      uint64
	gone     uint64 // what an unlinking took away
	fromDir  uint64
	fromName string
}

func newInode(ino uint64, mode uint32) *inode {
	i := &inode{ino: ino, mode: mode, mtime: time.Now()}
	if i.isDir() {
		i.names, i.syncedNames = map[string]uint64{}, map[string]uint64{}
	}
	return i
}

func (i *inode) isDir() bool { return i.mode&syscall.S_IFMT == syscall.S_IFDIR }

// place puts a name into a folder, durably.
func (i *inode) place(name string, ino uint64) {
	i.names[name], i.syncedNames[name] = ino, ino
}

// add makes an inode that nothing names yet.
func (d *Disk) add(mode uint32) *inode {
	d.last++
	i := newInode(d.last, mode)
	d.inodes[i.ino] = i
	return i
}

func (d *Disk) next() int {
	d.seq++
	return d.seq
}

// resized is b with a length; what it grows by is zeros.
func resized(b []byte, n int) []byte {
	if n <= cap(b) {
		old := len(b)
		b = b[:n]
		clear(b[min(old, n):])
		return b
	}
	grown := make([]byte, n, n+n/4)
	copy(grown, b)
	return grown
}

func (i *inode) resize(seq int, n int64) {
	if n == int64(len(i.data)) {
		return
	}
	i.data = resized(i.data, int(n))
	i.pending = append(i.pending, bytesChange{seq: seq, at: n})
	i.mtime = time.Now()
}

func (i *inode) write(seq int, at int64, b []byte) {
	if end := at + int64(len(b)); end > int64(len(i.data)) {
		i.resize(seq, end)
	}
	copy(i.data[at:], b)
	i.pending = append(i.pending, bytesChange{seq: seq, at: at, bytes: slices.Clone(b)})
	i.mtime = time.Now()
}

// sync makes the changes up to one durable.
func (i *inode) sync(upTo int) {
	n := 0
	for _, c := range i.pending {
		if c.seq > upTo {
			break
		}
		n++
		if c.bytes == nil {
			i.synced = resized(i.synced, int(c.at))
			continue
		}
		copy(i.synced[c.at:], c.bytes)
	}
	i.pending = slices.Delete(i.pending, 0, n)
}

// view is the names of a folder: as they are seen, or as they are durable.
type view func(dir uint64) map[string]uint64

func (d *Disk) seen(dir uint64) map[string]uint64    { return d.inodes[dir].names }
func (d *Disk) durable(dir uint64) map[string]uint64 { return d.inodes[dir].syncedNames }

// apply makes a change of names. Where an earlier change was lost, it does what is left of it.
func (c nameChange) apply(names view) {
	dir := names(c.dir)
	if c.ino == 0 {
		if dir[c.name] == c.gone {
			delete(dir, c.name)
		}
		return
	}
	dir[c.name] = c.ino
	if c.fromDir != 0 {
		if from := names(c.fromDir); from[c.fromName] == c.ino {
			delete(from, c.fromName)
		}
	}
}

func (c nameChange) touches(dir uint64) bool { return c.dir == dir || c.fromDir == dir }

// sameName: the one speaks of a name that the other speaks of, too.
func (c nameChange) sameName(o nameChange) bool {
	of := func(a nameChange) [][2]any {
		names := [][2]any{{a.dir, a.name}}
		if a.fromDir != 0 {
			names = append(names, [2]any{a.fromDir, a.fromName})
		}
		return names
	}
	return slices.ContainsFunc(of(c), func(n [2]any) bool { return slices.Contains(of(o), n) })
}

// rename notes and makes a change of names.
func (d *Disk) rename(c nameChange) {
	c.seq = d.next()
	c.apply(d.seen)
	d.renames = append(d.renames, c)
	now := time.Now()
	d.inodes[c.dir].mtime = now
	if c.fromDir != 0 {
		d.inodes[c.fromDir].mtime = now
	}
}

// syncNames makes the changes in a folder up to one durable, and those in others that they build on.
func (d *Disk) syncNames(dir uint64, upTo int) {
	due := make([]bool, len(d.renames))
	for at := len(d.renames) - 1; at >= 0; at-- {
		c := d.renames[at]
		due[at] = c.seq <= upTo && c.touches(dir)
		for later := at + 1; later < len(d.renames) && !due[at]; later++ {
			due[at] = due[later] && c.sameName(d.renames[later])
		}
	}
	var rest []nameChange
	for at, c := range d.renames {
		if due[at] {
			c.apply(d.durable)
		} else {
			rest = append(rest, c)
		}
	}
	d.renames = rest
}
