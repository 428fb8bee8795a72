package slot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Device is a card, as a whole.
type Device struct {
	// Path of the block device, or of a file with an image of a card.
	Path string
}

// Read tells the state. A card without one, or with a damaged one, is as u-boot takes it: slot A is good, nothing is tried.
func (d Device) Read() (State, error) {
	f, err := d.open(os.O_RDONLY)
	if err != nil {
		return State{}, err
	}
	defer func() { _ = f.Close() }()
	return f.read()
}

// Update changes the state by one write of one sector, and reads it back from the card. Whoever calls it at the same time waits.
func (d Device) Update(change func(State) State) (State, error) {
	f, err := d.open(os.O_RDWR)
	if err != nil {
		return State{}, err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return State{}, fmt.Errorf("slot: lock %s: %w", d.Path, err)
	}
	old, err := f.read()
	if err != nil {
		return old, err
	}
	s := change(old)
	s.Generation = old.Generation + 1
	if err := f.write(s); err != nil {
		return old, err
	}
	got, err := f.read()
	if err == nil && got != s {
		err = errors.New("slot: the card does not keep what is written to it")
	}
	return s, err
}

// file reads and writes past the kernel's cache: that holds pages of 8 sectors, would write all of them, and gives back what is in
// memory and not what is on the card.
type file struct {
	*os.File
	buf []byte // of one sector, aligned as O_DIRECT needs it
}

func (d Device) open(mode int) (*file, error) {
	f, err := os.OpenFile(d.Path, mode|unix.O_DIRECT|unix.O_DSYNC, 0)
	if errors.Is(err, unix.EINVAL) { // a file in a file system that can not
		f, err = os.OpenFile(d.Path, mode|unix.O_DSYNC, 0)
	}
	if err != nil {
		return nil, err
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f, page}, nil
}

// Close releases the buffer, too.
func (f *file) Close() error { return errors.Join(unix.Munmap(f.buf), f.File.Close()) }

func (f *file) read() (State, error) {
	sector := f.buf[:Size]
	if _, err := f.ReadAt(sector, Sector*Size); err != nil {
		return State{}, fmt.Errorf("slot: the state can not be read: %w", err)
	}
	s, err := Decode(sector)
	if errors.Is(err, ErrNoState) {
		return State{Good: A, Trial: None}, nil
	}
	return s, err
}

func (f *file) write(s State) error {
	copy(f.buf, s.Encode())
	if _, err := f.WriteAt(f.buf[:Size], Sector*Size); err != nil {
		return fmt.Errorf("slot: the state can not be written: %w", err)
	}
	if err := f.Sync(); err != nil { // a device has a cache of its own
		return fmt.Errorf("slot: the state can not be written: %w", err)
	}
	return nil
}
