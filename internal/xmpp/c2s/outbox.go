package c2s

import (
	"net"
	"sync"
	"time"

	"pibox/internal/xmpp"
)

const (
	pieceSize = 16 << 10 // one TLS record, one write deadline
	batchSize = 64 << 10 // what the writer takes at once
	// itemCost is what a waiting stanza holds beside its bytes.
	itemCost = 512
)

// item waits to be written: a stanza, or bytes of the stream around them.
type item struct {
	st  *xmpp.Stanza
	raw []byte
}

func (i item) bytes() []byte {
	if i.st != nil {
		return i.st.Raw
	}
	return i.raw
}

func (i item) cost() int {
	if i.st != nil {
		return len(i.st.Raw) + itemCost
	}
	return len(i.raw)
}

// outbox is a connection's way out. Anybody puts in and is never held up; a goroutine that lives only while something waits writes, as
// much as there is at once. Stanzas stay in it until they were written, so that what a lost connection did not take is known.
type outbox struct {
	shared *outboxConfig
	failed func(error) // told once, by the writer

	mu      sync.Mutex
	conn    net.Conn
	waiting []item
	cost    int           // of waiting
	writing bool          // somebody runs
	held    bool          // nothing may be written now: TLS is being negotiated
	closed  bool          // nothing is taken any more
	err     error         // the connection does not take anything any more
	until   time.Time     // when all must be written, after closing
	idle    chan struct{} // closed when nobody runs any more; nil when nobody waits for that
}

// outboxConfig is the same for all connections.
type outboxConfig struct {
	limit   int           // bytes that may wait for one
	timeout time.Duration // a piece that is not written within it means that the connection is lost
	pieces  sync.Pool     // of *[pieceSize]byte
}

type putResult uint8

const (
	taken putResult = iota
	refused
	overflow
)

// put queues a stanza.
func (o *outbox) put(st *xmpp.Stanza) putResult {
	it := item{st: st}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed || o.err != nil:
		return refused
	case o.cost+it.cost() > o.shared.limit && len(o.waiting) > 0:
		return overflow
	}
	o.add(it)
	return taken
}

func (o *outbox) add(it item) {
	o.waiting = append(o.waiting, it)
	o.cost += it.cost()
	o.wake()
}

func (o *outbox) wake() {
	if o.claim() {
		go o.run()
	}
}

// claim makes the caller the writer, if there is something to write and nobody writes: he has to run.
func (o *outbox) claim() bool {
	if o.writing || o.held || o.err != nil || len(o.waiting) == 0 {
		return false
	}
	o.writing = true
	return true
}

// queue is put for bytes of the stream by the reading goroutine, which may write itself instead of waking another one: mine tells that it has to
// run.
func (o *outbox) queue(raw []byte) (mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.err != nil {
		return false
	}
	o.waiting = append(o.waiting, item{raw: raw})
	o.cost += len(raw)
	return o.claim()
}

// close queues the last bytes, which flush or who writes already will write; all has to be written by then, which also cuts short a write that
// is going on.
func (o *outbox) close(last []byte, by time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed, o.until = true, by
	if o.writing {
		_ = o.conn.SetWriteDeadline(by)
	}
	if len(last) > 0 && o.err == nil {
		o.waiting = append(o.waiting, item{raw: last})
		o.cost += len(last)
	}
}

// flush writes what waits, or waits until who writes has nothing left, or the connection failed, or the time has come (zero: never). It is for
// the reading goroutine, while nothing is put in.
func (o *outbox) flush(by time.Time) error {
	for {
		o.mu.Lock()
		if o.claim() {
			o.mu.Unlock()
			o.run()
			continue
		}
		if !o.writing {
			defer o.mu.Unlock()
			return o.err
		}
		if o.idle == nil {
			o.idle = make(chan struct{})
		}
		idle := o.idle
		o.mu.Unlock()
		if by.IsZero() {
			<-idle
			continue
		}
		t := time.NewTimer(time.Until(by))
		select {
		case <-idle:
			t.Stop()
		case <-t.C:
			return errTooSlow
		}
	}
}

// hold keeps the writer from the connection, after all so far was written, until resume gives it the one to write to.
func (o *outbox) hold() error {
	if err := o.flush(time.Time{}); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = true
	return nil
}

func (o *outbox) resume(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn, o.held = conn, false
	o.wake()
}

// resumeWith ends hold with bytes that go before all that was put in since. The reading goroutine writes them itself, instead of waking another
// one.
func (o *outbox) resumeWith(first []byte) {
	err := o.writePieces(first)
	o.mu.Lock()
	o.held = false
	if o.err == nil {
		o.err = err
	}
	o.wake()
	o.mu.Unlock()
	if err != nil {
		o.failed(err)
	}
}

// unsent takes out the stanzas that were not written, as far as we know.
func (o *outbox) unsent() []*xmpp.Stanza {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*xmpp.Stanza
	for _, it := range o.waiting {
		if it.st != nil {
			list = append(list, it.st)
		}
	}
	if !o.writing {
		o.waiting, o.cost = nil, 0
	}
	return list
}

// run writes until nothing waits, for whoever has claimed that.
func (o *outbox) run() {
	var written int
	var err error
	for {
		batch := o.next(written, err)
		if batch == nil {
			break
		}
		written, err = len(batch), o.write(batch)
	}
	if err != nil {
		o.failed(err)
	}
}

// next removes what was written and gives what is to be written; nil ends the writer.
func (o *outbox) next(written int, err error) []item {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.err = err
	} else {
		for i := range o.waiting[:written] {
			o.cost -= o.waiting[i].cost()
			o.waiting[i] = item{}
		}
		o.waiting = o.waiting[written:]
	}
	if len(o.waiting) == 0 || o.err != nil {
		if len(o.waiting) == 0 {
			o.waiting = nil
		}
		o.writing = false
		if o.idle != nil {
			close(o.idle)
			o.idle = nil
		}
		return nil
	}
	n, size := 0, 0
	for n < len(o.waiting) && size < batchSize {
		size += len(o.waiting[n].bytes())
		n++
	}
	return o.waiting[:n:n]
}

// write joins what is small to full pieces: one system call, one TLS record.
func (o *outbox) write(batch []item) error {
	if len(batch) == 1 {
		return o.writePieces(batch[0].bytes())
	}
	piece, _ := o.shared.pieces.Get().(*[pieceSize]byte)
	if piece == nil {
		piece = new([pieceSize]byte)
	}
	defer o.shared.pieces.Put(piece)
	b := piece[:0]
	for _, it := range batch {
		for raw := it.bytes(); len(raw) > 0; {
			n := copy(piece[len(b):], raw)
			b, raw = piece[:len(b)+n], raw[n:]
			if len(b) < pieceSize {
				break
			}
			if err := o.writePieces(b); err != nil {
				return err
			}
			b = piece[:0]
		}
	}
	return o.writePieces(b)
}

func (o *outbox) writePieces(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), pieceSize)
		if _, err := o.limited().Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// limited is the connection with the deadline of the next piece set.
func (o *outbox) limited() net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	by := time.Now().Add(o.shared.timeout)
	if !o.until.IsZero() && o.until.Before(by) {
		by = o.until
	}
	_ = o.conn.SetWriteDeadline(by)
	return o.conn
}
