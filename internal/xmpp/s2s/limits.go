package s2s

import (
	"context"
	"net"
	"syscall"
	"time"

	"pibox/internal/xmpp/throttle"
)

// burst is how many seconds of its rate a connection may send at once.
const burst = 2

// rate bounds what one connection sends.
type rate struct{ stanzas, bytes throttle.Bucket }

func newRate(stanzas, bytes int) rate {
	return rate{
		throttle.NewBucket(float64(stanzas), burst*float64(stanzas)),
		throttle.NewBucket(float64(bytes), burst*float64(bytes)),
	}
}

// wait accounts for an element and keeps the reader from the next while the peer is too fast.
func (r *rate) wait(ctx context.Context, size int) error {
	now := time.Now()
	d := max(r.stanzas.Take(now, 1), r.bytes.Take(now, size))
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tcpUserTimeout is RFC 5482's TCP_USER_TIMEOUT in Linux, which package syscall does not name.
const tcpUserTimeout = 0x12

// tune makes the kernel find out that a peer is gone: a stream in one direction never brings an answer by itself.
func tune(conn net.Conn, deadAfter time.Duration) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: deadAfter, Interval: deadAfter / 4, Count: 4})
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(deadAfter.Milliseconds()))
	})
}
