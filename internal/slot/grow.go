package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// aligned is what a partition is rounded to, in sectors: 1 MiB.
	aligned = 2048
	// lastSector is the largest number that an MBR can hold: 2 TiB.
	lastSector = 1<<32 - 1
)

// Grown is what became of the last partition.
type Grown struct {
	From, To int64 // size in bytes
	Written  bool  // the partition table was
}

// Grow lets the last partition of a disk reach to its end, where that is 2 MiB or more away, and tells the kernel. It writes one sector, the
// partition table. What a cut leaves is the old table or the new one; the kernel reads it at the next start. The file system follows
// when it is mounted. part is the partition's block device, sys where sysfs is.
func Grow(d Device, part, sys string) (Grown, error) {
	now, err := extentOf(part, sys)
	if err != nil {
		return Grown{}, err
	}
	sectors, err := number(sys, filepath.Base(d.Path), "size")
	if err != nil {
		return Grown{}, err
	}
	f, err := d.open(os.O_RDWR)
	if err != nil {
		return Grown{}, err
	}
	defer func() { _ = f.Close() }()
	// systemd-udevd leaves a locked disk alone.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return Grown{}, fmt.Errorf("slot: lock %s: %w", d.Path, err)
	}
	size, written, err := f.growTable(now, sectors)
	g := Grown{From: now.size * Size, To: size * Size, Written: written}
	if err != nil || size == now.size {
		return g, err
	}
	return g, resize(f.File, extent{now.number, now.start, size})
}

// extent is a partition as the kernel has it, in sectors.
type extent struct{ number, start, size int64 }

func extentOf(part, sys string) (e extent, err error) {
	name := filepath.Base(part)
	for file, to := range map[string]*int64{"partition": &e.number, "start": &e.start, "size": &e.size} {
		n, failed := number(sys, name, file)
		*to, err = n, errors.Join(err, failed)
	}
	return e, err
}

func number(sys, device, file string) (int64, error) {
	raw, err := os.ReadFile(filepath.Join(sys, "class/block", device, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
}

// growTable changes the table where that gains something, and gives the size, in sectors, that the partition has in it.
func (f *file) growTable(p extent, sectors int64) (size int64, written bool, err error) {
	table := f.buf[:Size]
	if _, err := f.ReadAt(table, 0); err != nil {
		return 0, false, fmt.Errorf("slot: the partition table can not be read: %w", err)
	}
	old, size, err := stretched(table, p, sectors)
	if err != nil || size == old {
		return old, false, err
	}
	if _, err := f.WriteAt(table, 0); err != nil {
		return 0, false, fmt.Errorf("slot: the partition table can not be written: %w", err)
	}
	if err := f.Sync(); err != nil {
		return 0, false, fmt.Errorf("slot: the partition table can not be written: %w", err)
	}
	return size, true, nil
}

// stretched changes the entry of p, the last partition, in a disk's first sector. Both sizes are in sectors; they are equal where nothing is gained.
func stretched(table []byte, p extent, sectors int64) (old, size int64, err error) {
	if table[510] != 0x55 || table[511] != 0xaa || p.number < 1 || p.number > 4 {
		return 0, 0, errors.New("slot: the disk has no such partition table")
	}
	entry := func(n int64) []byte { return table[446+16*(n-1):][:16] }
	first := func(e []byte) int64 { return int64(binary.LittleEndian.Uint32(e[8:])) }
	length := func(e []byte) int64 { return int64(binary.LittleEndian.Uint32(e[12:])) }
	mine := entry(p.number)
	if first(mine) != p.start || length(mine) < p.size {
		return 0, 0, errors.New("slot: the kernel's partition is another than the table's")
	}
	for n := int64(1); n <= 4; n++ {
		if e := entry(n); n != p.number && length(e) > 0 && first(e) >= p.start {
			return 0, 0, fmt.Errorf("slot: partition %d is not the last one", p.number)
		}
	}
	old = length(mine)
	end := min(sectors, lastSector) / aligned * aligned
	if end < p.start+old+2*aligned {
		return old, old, nil
	}
	size = end - p.start
	copy(mine[5:8], "\xfe\xff\xff") // cylinder, head, sector: too far away to be told so
	binary.LittleEndian.PutUint32(mine[12:], uint32(size))
	return old, size, nil
}

// blkpgArg and blkpgPartition are of linux/blkpg.h.
type blkpgArg struct {
	op, flags, length int32
	data              unsafe.Pointer
}

type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [128]byte
}

// resize tells the kernel the new size of a partition that may be in use. Not by reading the table anew: that takes partitions away for a
// moment, and needs none of them to be mounted.
func resize(disk *os.File, e extent) error {
	const blkpg = 0x1269
	p := blkpgPartition{start: e.start * Size, length: e.size * Size, number: int32(e.number)}
	arg := blkpgArg{op: unix.BLKPG_RESIZE_PARTITION, length: int32(unsafe.Sizeof(p)), data: unsafe.Pointer(&p)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(&p)
	if errno != 0 {
		return fmt.Errorf("slot: the kernel does not take the new size of %s's partition %d: %w", disk.Name(), e.number, errno)
	}
	return nil
}
