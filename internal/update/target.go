package update

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"pibox/internal/admin"
)

// partition is the block device of a slot.
type partition struct {
	*os.File
	size int64
}

// openPartition opens one that nobody uses: the kernel refuses one that is mounted.
func openPartition(path string) (*partition, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, admin.Errorf(admin.CodeBusy, "%s is in use: the slot that an update goes into must not be mounted", path)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &partition{f, size}, nil
}

func (p *partition) Size() int64 { return p.size }

func (p *partition) Sync() error {
	if err := p.File.Sync(); err != nil {
		return err
	}
	// What is read from now on comes from the card.
	err := unix.IoctlSetInt(int(p.Fd()), unix.BLKFLSBUF, 0)
	if errors.Is(err, unix.ENOTTY) { // a file, in tests
		err = unix.Fadvise(int(p.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	return err
}
