package s2s

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipe is a connection in memory with a buffer, like a socket's; it works in a synctest bubble.
func pipe(room int, a, b net.Addr) (net.Conn, net.Conn) {
	there, back := newHalf(room), newHalf(room)
	return &pipeConn{in: back, out: there, local: a, remote: b}, &pipeConn{in: there, out: back, local: b, remote: a}
}

// half is one direction.
type half struct {
	mu     sync.Mutex
	buf    []byte
	room   int
	closed bool
	frozen bool // what is written does not arrive; the end of the connection loses it
	change chan struct{}

	readDeadline, writeDeadline time.Time
	wakeups                     []*time.Timer
}

func newHalf(room int) *half { return &half{room: room, change: make(chan struct{})} }

// changed is called with the lock.
func (h *half) changed() {
	close(h.change)
	h.change = make(chan struct{})
}

// until calls f with the lock, until it is done or the deadline passes.
func (h *half) until(deadline *time.Time, f func() (n int, err error, done bool)) (int, error) {
	for {
		h.mu.Lock()
		if !deadline.IsZero() && !time.Now().Before(*deadline) {
			h.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		n, err, done := f()
		ch := h.change
		h.mu.Unlock()
		if done {
			return n, err
		}
		<-ch
	}
}

func (h *half) setDeadline(which *time.Time, d time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*which = d
	h.changed()
	if !d.IsZero() && time.Until(d) > 0 {
		h.wakeups = append(h.wakeups, time.AfterFunc(time.Until(d), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed()
		}))
	}
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, t := range h.wakeups {
		t.Stop()
	}
	h.changed()
}

type pipeConn struct {
	in, out       *half
	local, remote net.Addr
}

func (c *pipeConn) Read(b []byte) (int, error) {
	return c.in.until(&c.in.readDeadline, func() (int, error, bool) {
		if len(c.in.buf) == 0 || c.in.frozen {
			return 0, io.EOF, c.in.closed
		}
		n := copy(b, c.in.buf)
		c.in.buf = c.in.buf[n:]
		c.in.changed()
		return n, nil, true
	})
}

func (c *pipeConn) Write(b []byte) (int, error) {
	total := 0
	for len(b) > 0 {
		n, err := c.out.until(&c.out.writeDeadline, func() (int, error, bool) {
			if c.out.closed {
				return 0, io.ErrClosedPipe, true
			}
			n := min(len(b), c.out.room-len(c.out.buf))
			if n <= 0 {
				return 0, nil, false
			}
			c.out.buf = append(c.out.buf, b[:n]...)
			c.out.changed()
			return n, nil, true
		})
		total, b = total+n, b[n:]
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (c *pipeConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *pipeConn) LocalAddr() net.Addr  { return c.local }
func (c *pipeConn) RemoteAddr() net.Addr { return c.remote }

func (c *pipeConn) SetDeadline(d time.Time) error {
	_ = c.SetReadDeadline(d)
	return c.SetWriteDeadline(d)
}

func (c *pipeConn) SetReadDeadline(d time.Time) error {
	c.in.setDeadline(&c.in.readDeadline, d)
	return nil
}

func (c *pipeConn) SetWriteDeadline(d time.Time) error {
	c.out.setDeadline(&c.out.writeDeadline, d)
	return nil
}
