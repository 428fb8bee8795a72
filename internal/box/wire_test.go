package box

import (
	"net"
	"sync"
	"testing"
)

// wire is between the boxes and can be cut.
type wire struct {
	ln net.Listener
	to string

	mu   sync.Mutex
	left int64 // bytes until it is cut; negative: never
	one  bool  // cut only what the old box says
}

func newWire(t *testing.T, to string) *wire {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, to: to, left: -1}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			go w.join(a)
		}
	}()
	return w
}

func (w *wire) cutAfter(n int64, one bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.one = n, one
}

func (w *wire) join(a net.Conn) {
	b, err := net.Dial("tcp", w.to)
	if err != nil {
		_ = a.Close()
		return
	}
	cut := func() { _, _ = a.Close(), b.Close() }
	pump := func(to, from net.Conn, answer bool) {
		defer cut()
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if err != nil || !w.pass(&n, answer) {
				_, _ = to.Write(buf[:n])
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go pump(b, a, false)
	pump(a, b, true)
}

// pass counts; at the cut only some of n goes through, and the next connection is whole again.
func (w *wire) pass(n *int, answer bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left < 0 || w.one && !answer {
		return true
	}
	if int64(*n) <= w.left {
		w.left -= int64(*n)
		return true
	}
	*n, w.left = int(w.left), -1
	return false
}
