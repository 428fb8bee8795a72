package slot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotImage: the system that runs was not booted from one of a card's slots.
var ErrNotImage = errors.New("this box was not installed from the card image")

// System is a running system that was booted from a slot.
type System struct {
	Running Slot
	// Trial tells that u-boot counted this boot as a try.
	Trial bool
	Disk  Device
	parts map[Slot]string
}

// Partition is the path of a slot's block device.
func (s System) Partition(of Slot) string { return s.parts[of] }

// Where tells where the kernel is asked. The zero value is this machine.
type Where struct {
	Cmdline string // default /proc/cmdline
	Sys     string // default /sys
	Dev     string // default /dev
	// Root is the number of the root file system's device, as in "179:2"; default: that of /.
	Root string
}

// The partitions of the slots; 1 is the FAT and 4 the data partition.
const (
	partitionA = 2
	partitionB = 3
)

// Find tells what was booted. The error is ErrNotImage where no slot was.
func Find(w Where) (System, error) {
	w = w.defaults()
	raw, err := os.ReadFile(w.Cmdline)
	if err != nil {
		return System{}, err
	}
	words := map[string]string{}
	for word := range strings.FieldsSeq(string(raw)) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	running, err := Parse(words["pibox.slot"])
	if err != nil {
		return System{}, ErrNotImage
	}
	s := System{Running: running, Trial: words["pibox.trial"] == "1"}
	disk, number, err := w.rootDisk()
	if err != nil {
		return System{}, err
	}
	if want := map[Slot]int{A: partitionA, B: partitionB}[running]; number != want {
		return System{}, fmt.Errorf("slot: slot %s was booted, but the root file system is partition %d", running, number)
	}
	if s.parts, err = w.partitions(disk); err != nil {
		return System{}, err
	}
	s.Disk = Device{Path: filepath.Join(w.Dev, filepath.Base(disk))}
	return s, nil
}

func (w Where) defaults() Where {
	def := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	def(&w.Cmdline, "/proc/cmdline")
	def(&w.Sys, "/sys")
	def(&w.Dev, "/dev")
	return w
}

// rootDisk is the folder in sysfs of the disk with the root file system, and the number of its partition.
func (w Where) rootDisk() (disk string, number int, err error) {
	if w.Root == "" {
		var st unix.Stat_t
		if err := unix.Stat("/", &st); err != nil {
			return "", 0, err
		}
		w.Root = fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	}
	part, err := filepath.EvalSymlinks(filepath.Join(w.Sys, "dev/block", w.Root))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, fmt.Errorf("slot: the root file system is on no partition: %w", ErrNotImage)
	}
	if err != nil {
		return "", 0, err
	}
	number, err = numberOf(part)
	return filepath.Dir(part), number, err
}

func (w Where) partitions(disk string) (map[Slot]string, error) {
	list, err := os.ReadDir(disk)
	if err != nil {
		return nil, err
	}
	parts := map[Slot]string{}
	for _, e := range list {
		switch n, err := numberOf(filepath.Join(disk, e.Name())); {
		case err != nil: // not a partition
		case n == partitionA:
			parts[A] = filepath.Join(w.Dev, e.Name())
		case n == partitionB:
			parts[B] = filepath.Join(w.Dev, e.Name())
		}
	}
	if len(parts) != 2 {
		return nil, fmt.Errorf("slot: %s has not both slots: %w", filepath.Base(disk), ErrNotImage)
	}
	return parts, nil
}

func numberOf(part string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(part, "partition"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}
