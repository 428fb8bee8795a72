package c2s

import (
	"net"
	"sync"
	"sync/atomic"
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
	sm  *unacked // stream management begins behind this
	// kept: it is among the unacknowledged ones.
	kept bool
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

// outbox is a session's way out. Anybody puts in and is never held up; a goroutine that lives only while something waits writes, as
// much as there is at once. Stanzas stay in it until they were written, or with stream management until the client acknowledged them, so that
// what a lost connection did not take is known.
type outbox struct {
	shared *outboxConfig
	taken  func(*xmpp.Stanza) // told of stored stanzas that were written; not with stream management

	mu       sync.Mutex
	conn     net.Conn
	failed   func(error)   // told once for a connection, by the writer
	asked    func()        // told when the client was asked for an acknowledgement
	waiting  []item        // in order
	flying   []item        // being written, or written in part when the connection failed
	sm       *unacked      // nil without stream management
	holdback *holdback     // nil while the client is active
	cost     int           // of waiting and flying
	writing  bool          // somebody runs
	lost     bool          // there is no connection, which may come back
	weight   int           // what is counted of it in shared.lost
	held     bool          // nothing may be written now: TLS is being negotiated, or there is no connection
	closed   bool          // nothing is taken any more
	err      error         // the connection does not take anything any more
	until    time.Time     // when all must be written, after closing
	idle     chan struct{} // closed when nobody runs any more; nil when nobody waits for that
}

// outboxConfig is the same for all connections.
type outboxConfig struct {
	limit   int           // bytes that may wait for one
	kept    int           // the same with stream management, with those that are not acknowledged
	held    int           // bytes that are held back from one that is inactive
	timeout time.Duration // a piece that is not written within it means that the connection is lost
	pieces  sync.Pool     // of *[pieceSize]byte
	lost    atomic.Int64  // bytes that wait for all without a connection, with those that are not acknowledged
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
	defer o.weigh()
	if o.closed || o.err != nil && !o.resumable() {
		return refused
	}
	if used := o.used(); used > 0 && used+it.cost() > o.most() {
		return overflow
	}
	if o.holdback != nil {
		if o.holdback.take(st, o.shared.held) {
			return taken
		}
		o.release()
	}
	o.add(it)
	return taken
}

// used is what waits and what is not acknowledged, most how much that may be; with the lock.
func (o *outbox) used() int {
	if o.sm == nil {
		return o.cost + o.heldCost()
	}
	return o.cost + o.heldCost() + o.sm.cost
}

func (o *outbox) most() int {
	if o.sm == nil {
		return o.shared.limit
	}
	return o.shared.kept
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
	if o.writing || o.held || o.err != nil || !o.due() {
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
	return o.queueItem(item{raw: raw})
}

func (o *outbox) queueItem(it item) (mine bool) {
	if o.closed || o.err != nil || o.conn == nil {
		return false
	}
	o.waiting = append(o.waiting, it)
	o.cost += it.cost()
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
	failed := o.failed
	o.mu.Unlock()
	if err != nil {
		failed(err)
	}
}

// unsent takes out the stanzas that were not written, or not acknowledged, as far as we know.
func (o *outbox) unsent() []*xmpp.Stanza {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*xmpp.Stanza
	if o.sm != nil {
		list, o.sm.list = o.sm.list, nil
	}
	for _, items := range [][]item{o.flying, o.waiting} {
		for _, it := range items {
			if it.st != nil && !it.kept {
				list = append(list, it.st)
			}
		}
	}
	if o.holdback != nil {
		list = append(list, o.holdback.all()...)
	}
	if !o.writing {
		o.waiting, o.flying, o.cost = nil, nil, 0
	}
	return list
}

// run writes until nothing waits, for whoever has claimed that.
func (o *outbox) run() {
	var err error
	for {
		p := o.next(err)
		if p.tell != nil {
			p.tell()
		}
		if p.nothing() {
			return
		}
		if err = o.write(p); err != nil {
			continue
		}
		for i := range p.batch {
			if it := &p.batch[i]; it.st != nil && it.st.Seq != 0 && !it.kept && o.taken != nil {
				o.taken(it.st)
			}
		}
	}
}

// picked is what is written at once.
type picked struct {
	batch []item
	ask   bool   // for an acknowledgement behind it
	tell  func() // to be called before
}

func (p *picked) nothing() bool { return len(p.batch) == 0 && !p.ask }

// next notes what became of what it gave before, and gives what is to be written; nothing ends the writer.
func (o *outbox) next(err error) (p picked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.err = err
		failed := o.failed
		p.tell = func() { failed(err) }
	} else {
		o.written()
		if !o.held {
			p = o.pick()
		}
		if !p.nothing() {
			o.flying = p.batch
			return p
		}
	}
	if len(o.waiting) == 0 {
		o.waiting = nil
	}
	o.writing = false
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
	return p
}

func (o *outbox) written() {
	for i := range o.flying {
		if !o.flying[i].kept {
			o.cost -= o.flying[i].cost()
		}
		o.flying[i] = item{}
	}
	o.flying = nil
}

// pick takes what is written next out of what waits.
func (o *outbox) pick() (p picked) {
	n, size := 0, 0
	for n < len(o.waiting) && size < batchSize && !o.full() {
		it := &o.waiting[n]
		size += len(it.bytes())
		n++
		if it.sm != nil { // a batch is all with stream management, or all without
			o.sm = it.sm
			break
		}
		if it.st != nil && o.sm != nil {
			it.kept = true
			o.cost -= it.cost()
			o.sm.add(it.st, it.cost())
		}
	}
	p.batch, o.waiting = o.waiting[:n:n], o.waiting[n:]
	if o.asksNow() {
		o.sm.ask()
		p.ask, p.tell = true, o.asked
	}
	return p
}

// write joins what is small to full pieces: one system call, one TLS record.
func (o *outbox) write(p picked) error {
	if len(p.batch) == 1 && !p.ask {
		return o.writePieces(p.batch[0].bytes())
	}
	piece, _ := o.shared.pieces.Get().(*[pieceSize]byte)
	if piece == nil {
		piece = new([pieceSize]byte)
	}
	defer o.shared.pieces.Put(piece)
	b := piece[:0]
	for i := range len(p.batch) + 1 {
		var raw []byte
		switch {
		case i < len(p.batch):
			raw = p.batch[i].bytes()
		case p.ask:
			raw = requestAck
		}
		for len(raw) > 0 {
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
