package s2s

import (
	"context"
	"net"
	"syscall"
	"time"
)

// rate is a token bucket for stanzas and one for bytes, of two seconds each. Time that is owed is waited for by the reader alone.
type rate struct {
	stanzas, bytes bucket
}

type bucket struct {
	perSecond float64
	tokens    float64
	at        time.Time
}

func newRate(stanzas, bytes int) rate {
	now := time.Now()
	return rate{bucket{float64(stanzas), 2 * float64(stanzas), now}, bucket{float64(bytes), 2 * float64(bytes), now}}
}

// take uses n tokens, which may leave a debt, and tells how long it takes to pay it back.
func (b *bucket) take(n float64) time.Duration {
	now := time.Now()
	b.tokens = min(b.tokens+now.Sub(b.at).Seconds()*b.perSecond, 2*b.perSecond) - n
	b.at = now
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.perSecond * float64(time.Second))
}

// wait accounts for an element and waits while the peer is too fast.
func (r *rate) wait(ctx context.Context, size int) error {
	d := max(r.stanzas.take(1), r.bytes.take(float64(size)))
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
