package push

import (
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// registration is one enabled push service. All but its name is guarded by Push.mu.
type registration struct {
	target
	account xmpp.JID
	rec     store.Push

	with   []uint64     // messages that the device's session was handed and did not acknowledge, in their order
	had    uint64       // the last one that it did
	loaded uint64       // up to here, with is what no device had at the start
	unread int          // messages since the device lost its connection
	due    bool         // there is something to tell
	last   *xmpp.Stanza // the last of with or unread; nil where there is none

	asking bool        // a publication is not answered
	timer  *time.Timer // what it waits for, until which nothing is published
	slot   bool        // the timer waits for the account's rate: at its end it is this one's turn
	fails  int         // in a row
	ended  bool
}

// maxWith bounds the messages that are remembered of one session.
const maxWith = 1000

func (g *registration) device() xmpp.JID { return g.account.With(g.rec.Device) }

// handed notes a message that went to the device's session.
func (g *registration) handed(st *xmpp.Stanza) {
	if st.Seq > g.had && len(g.with) < maxWith {
		g.with, g.last = append(g.with, st.Seq), st
	}
}

// missed notes a message that came while the device had no connection.
func (g *registration) missed(st *xmpp.Stanza) {
	g.unread++
	g.last, g.due = st, true
}

// load takes what waited at the start: the device does not have it, and may have a session that is to get it.
func (g *registration) load(waiting []*xmpp.Stanza) {
	for _, st := range waiting {
		g.handed(st)
		g.unread, g.last, g.loaded = g.unread+1, st, st.Seq
	}
}

// elsewhere notes that another device has a message, which then waits for this one no more.
func (g *registration) elsewhere(seq uint64) {
	if i, ok := slices.BinarySearch(g.with, seq); ok && seq <= g.loaded {
		g.with = slices.Delete(g.with, i, i+1)
	}
}

// acknowledged notes that the session has a message, and with it all earlier ones.
func (g *registration) acknowledged(seq uint64) {
	if seq <= g.had {
		return
	}
	g.had = seq
	n := 0
	for n < len(g.with) && g.with[n] <= seq {
		n++
	}
	g.with = slices.Delete(g.with, 0, n)
	if len(g.with) == 0 && g.unread == 0 {
		g.last = nil
	}
}

// lost: the device has no connection any more. What it did not acknowledge is to be told.
func (g *registration) lost() {
	if g.unread = len(g.with); g.unread > 0 {
		g.due = true
	}
}

// back: the device has a connection; it sees for itself.
func (g *registration) back() { g.unread, g.due = 0, false }

// recover ends the pause after failures.
func (g *registration) recover() {
	if g.fails == 0 {
		return
	}
	g.fails = 0
	if !g.slot {
		g.stop()
	}
}

func (g *registration) stop() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

func (g *registration) end() {
	g.ended = true
	g.stop()
}

// rate lets through what a bucket of Burst tokens, one more each Interval, would; whoever finds it empty takes a place in the future.
type rate struct{ next time.Time } // when the bucket is full again

// wait takes one token and tells how long to wait for it.
func (r *rate) wait(now time.Time, burst int, interval time.Duration) time.Duration {
	if r.next.Before(now) {
		r.next = now
	}
	r.next = r.next.Add(interval)
	return max(0, r.next.Sub(now)-time.Duration(burst)*interval)
}
