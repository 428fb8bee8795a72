package card

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is the real Host.
type Machine struct {
	Lock  string // a file that keeps two programs from making the FAT partition writable at once
	Mount string // where a USB stick is mounted
	TTY   string // the attached screen
	User  string // of the daemon
}

// ThisMachine is the one of the card image.
func ThisMachine() Machine {
	return Machine{Lock: "/run/pibox-card.lock", Mount: "/run/pibox-card-stick", TTY: "/dev/tty1", User: "pibox"}
}

// Mounted implements Host.
func (Machine) Mounted(dir string) bool {
	var at, above unix.Stat_t
	return unix.Stat(dir, &at) == nil && unix.Stat(filepath.Join(dir, ".."), &above) == nil && at.Dev != above.Dev
}

// Writable implements Host. The remount is that of the file system; in the unit's own mount namespace all other programs go on seeing it read-only.
func (m Machine) Writable(dir string, f func() error) error {
	lock, err := os.OpenFile(m.Lock, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return errors.Join(f(), syncFS(dir))
	}
	flags := uintptr(unix.MS_REMOUNT) | uintptr(st.Flags)&(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME|unix.MS_NODIRATIME)
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		return fmt.Errorf("%s can not be written: %w", dir, err)
	}
	err = errors.Join(f(), syncFS(dir))
	if back := unix.Mount("", dir, "", flags|unix.MS_RDONLY, ""); back != nil {
		err = errors.Join(err, fmt.Errorf("%s stays writable: %w", dir, back))
	}
	return err
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// SetHostname implements Host.
func (Machine) SetHostname(name string) error {
	if now, err := os.Hostname(); err == nil && now == name {
		return nil
	}
	return unix.Sethostname([]byte(name))
}

// SetClock implements Host.
func (Machine) SetClock(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}

// Screen implements Host. A board without one has the device all the same.
func (m Machine) Screen(text string) error {
	f, err := os.OpenFile(m.TTY, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	_, err = f.WriteString("\x1b[H\x1b[2J\x1b[3J" + text) // what scrolled away is erased, too
	return errors.Join(err, f.Close())
}

const (
	stickLooks   = 40
	stickPause   = 250 * time.Millisecond
	stickNone    = 8 // looks, where the board shows no stick at all
	mountTimeout = 20 * time.Second
)

// Stick implements Host. It waits for one that the kernel knows already.
func (m Machine) Stick() (string, error) {
	dev := ""
	for look := 0; dev == ""; look++ {
		dev = firstStick("/dev/disk/by-path")
		if dev == "" && (look >= stickLooks || look >= stickNone && !stickPlugged("/sys/bus/usb/devices")) {
			return "", nil
		}
		if dev == "" {
			time.Sleep(stickPause)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), mountTimeout)
	defer cancel()
	// By the service manager: a mount that this program makes is seen by nobody else.
	out, err := exec.CommandContext(ctx, "systemd-mount", "--quiet", "--no-ask-password", "--automount=no", "--collect", "--owner="+m.User,
		"--options=ro,nosuid,nodev,noexec", dev, m.Mount).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, line(string(out)))
	}
	return m.Mount, nil
}

// firstStick is the first partition of a stick, or the whole one where it has none.
func firstStick(dir string) string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	whole := ""
	for _, e := range list {
		name := e.Name()
		if !strings.Contains(name, "-usb") {
			continue
		}
		if strings.HasSuffix(name, "-part1") {
			return filepath.Join(dir, name)
		}
		if !strings.Contains(name, "-part") && whole == "" {
			whole = filepath.Join(dir, name)
		}
	}
	return whole
}

// stickPlugged tells whether there is a USB mass storage device (class 8).
func stickPlugged(dir string) bool {
	list, _ := filepath.Glob(filepath.Join(dir, "*", "bInterfaceClass"))
	return slices.ContainsFunc(list, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.TrimSpace(string(b)) == "08"
	})
}

// Owner implements Host.
func (m Machine) Owner() (uid, gid int, err error) {
	u, err := user.Lookup(m.User)
	if err != nil {
		return -1, -1, err
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return -1, -1, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// Addresses implements Host: IPv4, and IPv6 where there is none.
func (Machine) Addresses() []string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var v4, v6 []string
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if p.Addr().Unmap().Is4() {
			v4 = append(v4, p.Addr().Unmap().String())
		} else {
			v6 = append(v6, p.Addr().String())
		}
	}
	if len(v4) == 0 {
		v4 = v6
	}
	slices.Sort(v4)
	return v4[:min(len(v4), 3)]
}

// Uptime implements Host.
func (Machine) Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
