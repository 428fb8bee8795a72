// Package cutcard is an SD card that forgets: a block device in a file, served to QEMU by NBD, that keeps apart what was written and not yet
// flushed. After Cut each sector of that holds what was flushed last or any version that was written since, by lot: so writes are lost, torn and reordered,
// as a card's may be when the power goes. What was flushed, or written with FUA, stays.
//
// A library (github.com/pojntfx/go-nbd v0.3.2) does not offer flush to its client, without which there is nothing to cut.
package cutcard

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
)

const (
	// Sector is what is written whole or not at all, in bytes.
	Sector = 512
	// hold bounds what waits for a flush, in bytes: a card's own memory is small, and it writes from there when it likes.
	hold = 32 << 20
)

// Card is one card in its reader. Its methods may be called from any goroutine.
type Card struct {
	file *os.File
	size int64
	l    net.Listener

	mu      sync.Mutex
	off     bool
	cut     chan struct{}
	left    int // writes until the power goes by itself; 0: it does not
	lot     *rand.Rand
	gone    int                // sectors that the cut took
	fault   error              // of the cut
	waiting map[int64][][]byte // by number of the sector: the versions since the last flush, oldest first
	held    int                // bytes of them
	written []Write
	conns   []net.Conn
}

// Write is one that the machine asked for, in bytes.
type Write struct{ At, Length int64 }

// Insert serves the card in the file by NBD on a socket, until Eject or Cut. The size of the file is a multiple of a sector.
func Insert(file, socket string) (*Card, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size()%Sector != 0 {
		err = fmt.Errorf("%s: %d bytes are no whole sectors", file, st.Size())
	}
	var l net.Listener
	if err == nil {
		l, err = net.Listen("unix", socket)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	c := &Card{file: f, size: st.Size(), l: l, waiting: map[int64][][]byte{}, cut: make(chan struct{})}
	go c.accept()
	return c, nil
}

func (c *Card) accept() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		if c.off {
			_ = conn.Close()
		}
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
		go func() {
			defer conn.Close()
			_ = c.serve(conn)
		}()
	}
}

// CutAfter takes the power away by itself in the midst of the n-th write from now: the moments that matter, however slow the machine is.
func (c *Card) CutAfter(n int, lot *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.lot = n, lot
}

// WhenCut is closed when the power is gone.
func (c *Card) WhenCut() <-chan struct{} { return c.cut }

// Cut takes the power away, if it is not gone: nothing is written any more, and of what was not flushed the lot decides. The machine has to be ended
// then. lost is the number of sectors that are not what was written last.
func (c *Card) Cut(lot *rand.Rand) (lost int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.powerOff(lot)
	return c.gone, c.fault
}

func (c *Card) powerOff(lot *rand.Rand) {
	if c.off {
		return
	}
	lost, err := 0, error(nil)
	for _, at := range c.order() {
		versions := c.waiting[at]
		n := lot.IntN(len(versions) + 1) // 0: what was flushed last
		if n < len(versions) {
			lost++
		}
		if n > 0 && err == nil {
			_, err = c.file.WriteAt(versions[n-1], at*Sector)
		}
	}
	c.waiting = map[int64][][]byte{}
	c.gone, c.fault = lost, c.end(err)
	close(c.cut)
}

// Eject ends it behind an orderly shut-down: what was written stays.
func (c *Card) Eject() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end(c.flush())
}

// end is called with the lock held. A second time it does nothing.
func (c *Card) end(err error) error {
	if c.off {
		return err
	}
	c.off = true
	_ = c.l.Close()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	if e := c.file.Close(); err == nil {
		err = e
	}
	return err
}

// Written are the writes since the card was inserted.
func (c *Card) Written() []Write {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.written)
}

func (c *Card) order() []int64 {
	all := make([]int64, 0, len(c.waiting))
	for at := range c.waiting {
		all = append(all, at)
	}
	slices.Sort(all)
	return all
}

// write and what follows are called with the lock held.
func (c *Card) write(data []byte, at int64, durable bool) error {
	c.written = append(c.written, Write{at, int64(len(data))})
	for i := 0; i < len(data); i += Sector {
		n := at/Sector + int64(i/Sector)
		c.waiting[n] = append(c.waiting[n], slices.Clone(data[i:i+Sector]))
		c.held += Sector
	}
	if c.left--; c.left == 0 {
		c.powerOff(c.lot)
		return errOff
	}
	if durable { // FUA: these alone, and with them what was written there before
		return c.settle(at/Sector, int64(len(data)/Sector))
	}
	if c.held > hold {
		return c.flush()
	}
	return nil
}

func (c *Card) settle(first, n int64) error {
	for at := first; at < first+n; at++ {
		versions := c.waiting[at]
		if len(versions) == 0 {
			continue
		}
		if _, err := c.file.WriteAt(versions[len(versions)-1], at*Sector); err != nil {
			return err
		}
		c.held -= Sector * len(versions)
		delete(c.waiting, at)
	}
	return nil
}

func (c *Card) flush() error {
	all := c.order()
	for i := 0; i < len(all); { // runs of sectors in one write
		run := i
		var data []byte
		for ; i < len(all) && all[i] == all[run]+int64(i-run); i++ {
			versions := c.waiting[all[i]]
			data = append(data, versions[len(versions)-1]...)
		}
		if _, err := c.file.WriteAt(data, all[run]*Sector); err != nil {
			return err
		}
	}
	c.waiting, c.held = map[int64][][]byte{}, 0
	return nil
}

func (c *Card) read(data []byte, at int64) error {
	if _, err := c.file.ReadAt(data, at); err != nil {
		return err
	}
	for i := 0; i < len(data) && len(c.waiting) > 0; i += Sector {
		if versions := c.waiting[at/Sector+int64(i/Sector)]; len(versions) > 0 {
			copy(data[i:], versions[len(versions)-1])
		}
	}
	return nil
}
