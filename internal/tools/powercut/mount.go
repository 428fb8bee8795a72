package powercut

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// ErrNoFUSE tells what is missing.
var ErrNoFUSE = errors.New("this machine can not mount FUSE file systems")

// Available says in one line what is missing for Mount; nil where nothing is.
func Available() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w (%w): 'modprobe fuse', and give the container /dev/fuse", ErrNoFUSE, err)
	}
	_ = f.Close()
	if _, err := exec.LookPath("fusermount3"); err != nil && os.Geteuid() != 0 {
		return fmt.Errorf("%w (not root, and no fusermount3): 'apt-get install fuse3'", ErrNoFUSE)
	}
	return nil
}

// Mount is a disk that is mounted.
type Mount struct {
	dir    string
	server *fuse.Server
}

// Mount mounts the disk on a folder.
func (d *Disk) Mount(dir string) (*Mount, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	server, err := fuse.NewServer(&kernel{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d}, dir, &fuse.MountOptions{
		FsName: "powercut", Name: "powercut", DirectMount: true, MaxWrite: 1 << 20, DisableXAttrs: true, DisableReadDirPlus: true,
		Logger: log.New(io.Discard, "", 0),
		// Every write comes at once, and is in the kernel's pages already, which mmap shows: the kernel is never to forget them by itself.
		DisabledCapabilities: fuse.CAP_WRITEBACK_CACHE | fuse.CAP_AUTO_INVAL_DATA,
	})
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", dir, err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return nil, fmt.Errorf("mounting %s: %w", dir, err)
	}
	return &Mount{dir, server}, nil
}

// Close unmounts, whoever still uses it.
func (m *Mount) Close() error {
	err := syscall.Unmount(m.dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
	if errors.Is(err, syscall.EPERM) {
		err = exec.Command("fusermount3", "-u", "-z", m.dir).Run()
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", m.dir, err)
	}
	m.server.Wait()
	return nil
}

// forever is for how long the kernel may believe what it was told: nobody else changes the disk.
const forever = uint64(3600)

// kernel speaks FUSE for a disk.
type kernel struct {
	fuse.RawFileSystem
	disk *Disk
}

func attr(to *fuse.Attr, i Info) {
	t := uint64(i.Modified.Unix())
	ns := uint32(i.Modified.Nanosecond())
	*to = fuse.Attr{
		Ino: i.Ino, Mode: i.Mode, Nlink: i.Links, Size: uint64(i.Size), Blocks: uint64(i.Size+511) / 512, Blksize: 4096,
		Owner: fuse.Owner{Uid: i.UID, Gid: i.GID},
		Mtime: t, Mtimensec: ns, Ctime: t, Ctimensec: ns, Atime: t, Atimensec: ns,
	}
}

func entry(to *fuse.EntryOut, i Info, errno syscall.Errno) fuse.Status {
	if errno == 0 {
		to.NodeId, to.EntryValid, to.AttrValid = i.Ino, forever, forever
		attr(&to.Attr, i)
	}
	return fuse.Status(errno)
}

func (k *kernel) String() string { return "powercut" }

func (k *kernel) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	info, errno := k.disk.Lookup(h.NodeId, name)
	return entry(out, info, errno)
}

func (k *kernel) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	info, errno := k.disk.Stat(in.NodeId)
	out.AttrValid = forever
	attr(&out.Attr, info)
	return fuse.Status(errno)
}

func (k *kernel) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	var errno syscall.Errno
	if size, ok := in.GetSize(); ok {
		errno = k.disk.Truncate(in.NodeId, int64(size))
	}
	if mode, ok := in.GetMode(); ok && errno == 0 {
		errno = k.disk.SetMode(in.NodeId, mode)
	}
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if (setUID || setGID) && errno == 0 {
		info, _ := k.disk.Stat(in.NodeId)
		if !setUID {
			uid = info.UID
		}
		if !setGID {
			gid = info.GID
		}
		errno = k.disk.SetOwner(in.NodeId, uid, gid)
	}
	if t, ok := in.GetMTime(); ok && errno == 0 {
		errno = k.disk.SetModified(in.NodeId, t)
	}
	if errno != 0 {
		return fuse.Status(errno)
	}
	return k.GetAttr(cancel, &fuse.GetAttrIn{InHeader: in.InHeader}, out)
}

func (k *kernel) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	info, errno := k.disk.Make(in.NodeId, name, syscall.S_IFDIR|in.Mode&0o7777, in.Uid, in.Gid)
	return entry(out, info, errno)
}

func (k *kernel) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	info, errno := k.disk.Make(in.NodeId, name, syscall.S_IFREG|in.Mode&0o7777, in.Uid, in.Gid)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return entry(&out.EntryOut, info, errno)
}

func (k *kernel) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return fuse.Status(k.disk.Remove(h.NodeId, name, false))
}

func (k *kernel) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return fuse.Status(k.disk.Remove(h.NodeId, name, true))
}

// renameNoReplace is RENAME_NOREPLACE of renameat2(2).
const renameNoReplace = 1

func (k *kernel) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	if in.Flags&^renameNoReplace != 0 {
		return fuse.EINVAL
	}
	return fuse.Status(k.disk.Rename(in.NodeId, from, in.Newdir, to, in.Flags&renameNoReplace != 0))
}

func (k *kernel) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	info, errno := k.disk.Link(in.Oldnodeid, in.NodeId, name)
	return entry(out, info, errno)
}

func (k *kernel) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	_, errno := k.disk.Stat(in.NodeId)
	if errno == 0 && in.Flags&syscall.O_TRUNC != 0 {
		errno = k.disk.Truncate(in.NodeId, 0)
	}
	return fuse.Status(errno)
}

func (k *kernel) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, errno := k.disk.ReadAt(in.NodeId, buf, int64(in.Offset))
	return fuse.ReadResultData(buf[:n]), fuse.Status(errno)
}

func (k *kernel) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	return uint32(len(b)), fuse.Status(k.disk.WriteAt(in.NodeId, b, int64(in.Offset), in.Flags&syscall.O_DSYNC != 0))
}

func (k *kernel) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (k *kernel) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fuse.Status(k.disk.Sync(in.NodeId))
}

func (k *kernel) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return fuse.Status(k.disk.Sync(in.NodeId))
}

func (k *kernel) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	_, errno := k.disk.List(in.NodeId)
	return fuse.Status(errno)
}

func (k *kernel) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries, errno := k.disk.List(in.NodeId)
	for at := int(in.Offset); at < len(entries); at++ {
		e := entries[at]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: e.Mode, Off: uint64(at) + 1}) {
			break
		}
	}
	return fuse.Status(errno)
}

// StatFs tells of a disk that is never full.
func (k *kernel) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 16 << 30 / 4096
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: 1 << 20, Ffree: 1 << 20, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return fuse.OK
}
