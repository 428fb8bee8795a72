package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxPath is what fits into sockaddr_un.sun_path, with its final zero, less
// the suffix of the temporary name.
const maxPath = 107 - len(newSuffix)

const newSuffix = ".new"

// Listener is the daemon's end of the socket.
type Listener struct {
	*net.UnixListener
	path string
	gid  uint32
	lock *os.File

	once     sync.Once
	closeErr error
}

// Listen makes the socket at path, of mode 0660 and the named group (empty:
// that of this process), and its folder where there is none. A socket that a
// daemon left behind is replaced. The error is CodeRunning when another
// daemon has it; that is decided by a lock on path.lock, which the kernel
// drops with the process, so it is never stale.
func Listen(path, group string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, Errorf(CodeInvalid, "the path of the admin socket has %d characters, %d are possible: %s", len(path), maxPath, path).
			Then("Set admin.socket to a shorter path.")
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	// 0711: who knows the path gets to the socket, and nothing is listed.
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("folder of the admin socket: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path, gid)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Listener{UnixListener: l, path: path, gid: uint32(gid), lock: lock}, nil
}

// bind listens under a temporary name and renames: the socket is never there
// with another mode or group, and takes the place of a stale one in one step.
func bind(path string, gid int) (*net.UnixListener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, Errorf(CodeInvalid, "%s is there and is no socket", path).Then("Remove it, or set admin.socket to another path.")
	}
	temporary := path + newSuffix
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(temporary, 0o660); err == nil && gid != groupOf(temporary) {
		if err = os.Chown(temporary, -1, gid); errors.Is(err, fs.ErrPermission) {
			err = Errorf(CodeInvalid, "the admin socket can not be given to group %d: %v", gid, err).
				Then("The box's own user must be in that group; or give the socket's folder to the group, with mode 2755.")
		}
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_, _ = l.Close(), os.Remove(temporary)
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return l, nil
}

// groupOf returns the group of a file: that of this process, or in a folder
// with the set-group-ID bit that of the folder.
func groupOf(path string) int {
	info, err := os.Lstat(path)
	if err != nil {
		return -1
	}
	return int(info.Sys().(*syscall.Stat_t).Gid)
}

// lockOf takes the lock of a file. A daemon that was killed while it started a child leaves the lock with that child for the moment until the
// child runs its own program: as long as the process that took it is gone, it is waited for, 5 s at the most.
func lockOf(f *os.File) error {
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(until) {
			return err
		}
		text := make([]byte, 16)
		n, _ := f.ReadAt(text, 0)
		pid, convErr := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		if convErr != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return err
		}
	}
}

// takeLock makes this process the only daemon of the socket at path.
func takeLock(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600) // it is cut and written: no link may lead elsewhere
	if err != nil {
		return nil, fmt.Errorf("lock of the admin socket: %w", err)
	}
	err = lockOf(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		who := "another pibox"
		if pid, err := os.ReadFile(name); err == nil && len(pid) > 0 {
			who += " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		err = Errorf(CodeRunning, "%s is running already with %s", who, path).
			Then("Stop that one first, or give this one another data_dir and admin.socket.")
		return nil, errors.Join(err, f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock of the admin socket: %w", err), f.Close())
	}
	return f, nil
}

func groupID(name string) (int, error) {
	if name == "" {
		return os.Getegid(), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, Errorf(CodeInvalid, "there is no group %q for the admin socket", name).Then("Make it with 'groupadd %s', or change admin.group.", name)
	}
	return strconv.Atoi(g.Gid)
}

// Close removes the socket and lets another daemon have its place. Closing
// again does nothing: the place may be taken by then.
func (l *Listener) Close() error {
	l.once.Do(func() {
		err := os.Remove(l.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		l.closeErr = errors.Join(err, l.UnixListener.Close(), l.lock.Close())
	})
	return l.closeErr
}
