// Package card is what happens on the card between the kernel and the daemon: pibox.toml on the partition that any computer shows is read and
// checked, its secrets go to the data partition, the network gets its Wi-Fi, and what a person has to know is written to pibox-status.txt there and to
// the screen. docs/card.md tells it to people.
//
// It runs as root in short programs (pibox card boot, pibox card status); the daemon, which has no rights, is given orders and facts in one folder
// under /run and answers with a report in another.
//
// FAT has no journal: a rename or a new file there is several writes, and a power cut between them leaves two files on the same sectors. So what is on it
// is overwritten in place: single sectors change, which are old or new. What counts is on the data partition first.
package card

import (
	"log/slog"
	"time"
)

// Place says where everything is.
type Place struct {
	FAT     string // the first partition, mounted read-only
	Data    string // the data partition
	Store   string // the database on it
	Run     string // from here to the daemon; empty after a boot
	Daemon  string // from the daemon to here
	Zones   string // the time zones that there are
	Epoch   string // a file whose time is that of the build
	Clock   string // a file whose time was the time, some time ago
	Control string // wpa_supplicant's sockets, by interface
	Synced  string // a file that is there when the time was set by the network
}

// Places are those of the card image.
func Places() Place {
	return Place{
		FAT: "/boot/pibox", Data: "/data", Store: "/data/pibox/pibox.db", Run: "/run/pibox-card", Daemon: "/run/pibox",
		Zones: "/usr/share/zoneinfo", Epoch: "/usr/lib/clock-epoch", Clock: "/var/lib/systemd/timesync/clock", Control: "/run/wpa_supplicant",
		Synced: "/run/systemd/timesync/synchronized",
	}
}

// Host is the machine, as far as it is changed or asked.
type Host interface {
	// Mounted tells whether a file system of its own is mounted there.
	Mounted(dir string) bool
	// Writable makes the FAT partition writable for the time of f, and everything on it durable before it returns.
	Writable(dir string, f func() error) error
	SetHostname(name string) error
	SetClock(t time.Time) error
	// Screen shows a text on the attached screen, in place of what is there.
	Screen(text string) error
	// Stick mounts the first partition of a USB stick, read-only and readable for the daemon, and returns where; "" where there is none.
	Stick() (dir string, err error)
	// Owner is the user and the group of the daemon.
	Owner() (uid, gid int, err error)
	// Addresses are those of this machine in its network.
	Addresses() []string
	// Uptime is the time since the boot.
	Uptime() time.Duration
}

// Card works on one card.
type Card struct {
	Place
	Host Host
	Log  *slog.Logger
	Now  func() time.Time
	disk disk
}

// New returns a Card on the real disk.
func New(p Place, h Host, log *slog.Logger) *Card {
	return &Card{Place: p, Host: h, Log: log, Now: time.Now, disk: osDisk{}}
}
