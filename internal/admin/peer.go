package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is what the kernel says about the process at the other end, as it was
// when it connected (unix(7), SO_PEERCRED).
type peer struct {
	pid    int
	uid    uint32
	groups []uint32 // primary and supplementary
}

// maxGroups is NGROUPS_MAX of Linux.
const maxGroups = 65536

func peerOf(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var p peer
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p = peer{pid: int(cred.Pid), uid: cred.Uid, groups: []uint32{cred.Gid}}
		p.groups = append(p.groups, peerGroups(fd)...)
	})
	return p, errors.Join(err, inner)
}

// peerGroups returns the supplementary groups, or none where the kernel does
// not tell them (before 4.13, or emulated): then the primary group counts.
func peerGroups(fd uintptr) []uint32 {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4]
		case errno == unix.ERANGE && len(groups) < maxGroups:
			groups = make([]uint32, min(int(size/4)+1, maxGroups))
		default:
			return nil
		}
	}
}

// allowed tells whether p may use a socket of group gid.
func (p peer) allowed(gid uint32) bool {
	return p.uid == 0 || p.uid == uint32(os.Geteuid()) || slices.Contains(p.groups, gid)
}

func (p peer) String() string { return fmt.Sprintf("uid %d, process %d", p.uid, p.pid) }
