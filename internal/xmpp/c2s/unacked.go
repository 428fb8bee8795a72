package c2s

import (
	"net"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sm"
)

// askEvery is after how many stanzas the client is asked for an acknowledgement at the latest. After a message it is asked as soon as nothing more
// waits: the device is awake then. What is less than a message never wakes it for that alone.
const askEvery = 20

// requestAck is XEP-0198 §4; never changed.
var requestAck = []byte(sm.Ask)

// unacked is what a client was sent and did not acknowledge yet (XEP-0198 §4): references, as others of its devices have the same stanzas. It is
// guarded by its outbox's lock.
type unacked struct {
	resume bool // the session outlives its connection

	list  []*xmpp.Stanza
	cost  int    // of list
	acked uint32 // the client's last h

	unasked  int       // stanzas sent since it was asked
	pressing bool      // there is a message among them
	want     bool      // it is to be asked, whatever was sent
	asked    time.Time // when it was asked; zero when it answered
}

func (u *unacked) add(st *xmpp.Stanza, cost int) {
	u.list = append(u.list, st)
	u.cost += cost
	u.unasked++
	u.pressing = u.pressing || st.Kind == xmpp.Message
}

func (u *unacked) ask() {
	u.asked, u.unasked, u.pressing, u.want = time.Now(), 0, false, false
}

// sent is the count of our stanzas, to be compared with the client's h.
func (u *unacked) sent() uint32 { return u.acked + uint32(len(u.list)) }

// ack takes the client's h. stale: it told a later one before; nothing changes then, nor with an error.
func (u *unacked) ack(h uint32) (done []*xmpp.Stanza, stale bool, err *xmpp.StreamError) {
	n, back := sm.Since(u.acked, h)
	switch {
	case back:
		return nil, true, nil
	case n > uint32(len(u.list)):
		return nil, false, countTooHigh(h, u.sent())
	}
	done, u.acked = u.list[:n:n], h
	if u.list = u.list[n:]; len(u.list) == 0 {
		u.list = nil
	}
	for _, st := range done {
		u.cost -= item{st: st}.cost()
	}
	if u.unasked = min(u.unasked, len(u.list)); u.unasked == 0 {
		u.pressing = false
	}
	return done, false, nil
}

// resumable tells that the session outlives its connection; called with the lock.
func (o *outbox) resumable() bool { return o.sm != nil && o.sm.resume }

// full: a client that does not acknowledge what it has is sent nothing more. It was asked to.
func (o *outbox) full() bool { return o.sm != nil && !o.closed && o.sm.cost >= o.shared.kept/2 }

// due tells that there is something to write.
func (o *outbox) due() bool { return len(o.waiting) > 0 && !o.full() || o.asksNow() }

func (o *outbox) asksNow() bool {
	u := o.sm
	if u == nil || !u.asked.IsZero() || o.closed {
		return false
	}
	last := len(o.waiting) == 0 || o.full()
	return u.want || u.pressing && last || u.unasked >= askEvery || u.unasked > 0 && o.full()
}

// ack takes the client's h.
func (o *outbox) ack(h uint32) ([]*xmpp.Stanza, *xmpp.StreamError) {
	o.mu.Lock()
	defer o.mu.Unlock()
	done, _, err := o.sm.ack(h)
	if err == nil {
		o.sm.asked = time.Time{}
		o.wake()
	}
	return done, err
}

// wantAck asks the client for an acknowledgement, unless it was asked already.
func (o *outbox) wantAck() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release()
	o.sm.want = true
	o.wake()
}

// askedAt is since when the client owes an answer; zero when it does not.
func (o *outbox) askedAt() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sm == nil {
		return time.Time{}
	}
	return o.sm.asked
}

func (o *outbox) isResumable() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.resumable()
}

// begin queues bytes of the stream behind which stream management begins.
func (o *outbox) begin(raw []byte, u *unacked) (mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queueItem(item{raw: raw, sm: u})
}

// detach takes the connection away, at the latest when the time has come, and leaves what was not acknowledged. whole: what was written last was written
// completely, so that something may follow.
func (o *outbox) detach(by time.Time) (whole bool) {
	o.mu.Lock()
	o.held, o.until = true, by
	if o.writing {
		_ = o.conn.SetWriteDeadline(by)
	}
	o.mu.Unlock()
	_ = o.flush(time.Time{}) // the deadline ends it
	o.mu.Lock()
	defer o.mu.Unlock()
	whole = o.err == nil
	o.conn, o.err, o.until, o.flying, o.cost = nil, nil, time.Time{}, nil, 0
	kept := o.waiting[:0]
	for _, it := range o.waiting {
		if it.st != nil { // bytes of that stream are nothing to another
			kept = append(kept, it)
			o.cost += it.cost()
		}
	}
	clear(o.waiting[len(kept):])
	o.waiting = kept
	o.sm.asked, o.sm.want = time.Time{}, false
	o.lost = true
	o.weigh()
	return whole
}

// attach goes on with another connection: first the bytes, then what was not acknowledged, then what waits. The client is active (XEP-0352 §5.2).
func (o *outbox) attach(conn net.Conn, first []byte, failed func(error), asked func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release()
	o.holdback = nil
	items := make([]item, 0, 1+len(o.sm.list)+len(o.waiting))
	items = append(items, item{raw: first})
	for _, st := range o.sm.list {
		items = append(items, item{st: st})
	}
	o.waiting = append(items, o.waiting...)
	o.cost += len(first) + o.sm.cost
	o.sm.list, o.sm.cost, o.sm.unasked, o.sm.pressing = nil, 0, 0, false
	o.conn, o.failed, o.asked, o.held, o.lost = conn, failed, asked, false, false
	o.weigh()
	o.wake()
}

// resumeAt takes the h that a client wants to go on from; ok is false when it was given up to a later one.
func (o *outbox) resumeAt(h uint32) (done []*xmpp.Stanza, ok bool, err *xmpp.StreamError) {
	o.mu.Lock()
	defer o.mu.Unlock()
	done, stale, err := o.sm.ack(h)
	o.weigh()
	return done, !stale, err
}

func (o *outbox) setAsked(asked func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = asked
}

func (o *outbox) acked() uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sm.acked
}

// shut takes nothing more, for who has no connection.
func (o *outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.lost = true, false
	o.weigh()
}
