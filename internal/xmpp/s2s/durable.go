package s2s

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// cursorDelay is how long what arrived may be unknown to the store: what did as long as this before a power cut is sent again, and says so.
const cursorDelay = 5 * time.Second

// expectTime is how long the stanza of an entry may take to come from the router, before it is read from the log.
const expectTime = 2 * time.Minute

// debt is what one of our domains owes another server: entries of the store's log. The log is the queue: open is its part in memory. The
// server's lock guards it.
type debt struct {
	open   []owed // by sequence; begins with one that has not arrived
	behind bool   // later entries are in the log alone,
	read   uint64 // those after this one
	more   bool   // and more came since the log was read last
	unread int    // of open: how many are to be read from the log
	// begun are the entries of transactions that may not be committed yet, or that failed.
	begun []uint64
	dirty bool // the store does not know all that arrived
	owing bool // the store has a cursor
	dues  dues
}

type owedState uint8

const (
	expected owedState = iota // Send is to come
	unread                    // to be read from the log
	here                      // queued, or on its way
	done                      // arrived, or given up
)

type owed struct {
	seq   uint64
	state owedState
	since time.Time
	again bool // of its item
	from  xmpp.JID
	size  int // as dues count it
}

// position is the sequence up to which all arrived; false when nothing is owed.
func (d *debt) position() (uint64, bool) {
	switch {
	case len(d.open) > 0:
		return d.open[0].seq - 1, true
	case d.behind:
		return d.read, true
	case len(d.begun) > 0:
		return d.begun[0] - 1, true
	}
	return 0, false
}

func (d *debt) active() bool {
	return len(d.open) > 0 || d.behind || len(d.begun) > 0 || d.dirty || d.owing
}

func (d *debt) find(seq uint64) *owed {
	i, ok := slices.BinarySearchFunc(d.open, seq, func(o owed, seq uint64) int { return cmp.Compare(o.seq, seq) })
	if !ok {
		return nil
	}
	return &d.open[i]
}

func progressKey(p pair) string { return store.Key(store.ProgressSent, p.local, p.remote) }

// Owe tells, within the transaction that appended it, that an entry of the log with Remote is owed to another server. It implements
// [xmpp.DurableRemote].
func (s *Server) Owe(tx *store.Tx, st *xmpp.Stanza, seq uint64) {
	p := pair{st.From.Domain, st.To.Domain}
	s.mu.Lock()
	l := s.links[p]
	if l == nil {
		full := !s.makeRoom()
		l = s.newLink(p)
		l.refused = full
	}
	d := &l.debt
	// Transactions that failed gave their numbers back.
	for len(d.begun) > 0 && d.begun[len(d.begun)-1] >= seq {
		d.begun = d.begun[:len(d.begun)-1]
	}
	at, owing := d.position()
	if !owing {
		at = seq - 1
	}
	d.begun = append(d.begun, seq)
	s.soil(d) // to forget it, should the transaction fail
	s.mu.Unlock()
	store.Progress.Put(tx, progressKey(p), store.Count(at))
	tx.OnCommit(func() { s.owed(p, owed{seq: seq, from: st.From.Bare(), size: dueSize(st)}) })
}

// owed: the transaction of Owe is durable.
func (s *Server) owed(p pair, o owed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	if l == nil {
		l = s.newLink(p)
	}
	d := &l.debt
	d.begun = slices.DeleteFunc(d.begun, func(b uint64) bool { return b <= o.seq })
	d.owing = true
	s.due(d, o.from, o.size)
	switch {
	case o.seq <= d.read: // it was read from the log already
	case d.behind:
		d.more = true
	case len(d.open) >= s.opt.queueStanzas:
		d.behind = true
		if !s.stopping {
			s.kick(l)
		}
	default:
		o.state, o.since = expected, time.Now()
		d.open = append(d.open, o)
		d.read = o.seq
		s.remind(l, o.since.Add(expectTime))
	}
}

// arrived: an entry is owed no more; for a stanza that is not stored it does nothing. Called with the lock.
func (s *Server) arrived(l *link, seq uint64) {
	d := &l.debt
	o := d.find(seq)
	if seq == 0 || o == nil || o.state == done {
		return
	}
	s.due(d, o.from, -o.size)
	if o.state == unread {
		d.unread--
	}
	o.state = done
	for len(d.open) > 0 && d.open[0].state == done {
		d.open = d.open[1:]
	}
	if len(d.open) == 0 {
		d.open = nil
	}
	s.soil(d)
	if d.behind || d.unread > 0 {
		s.kick(l)
	}
}

// soil has what arrived written soon. A transaction of the pair may do it before. Called with the lock.
func (s *Server) soil(d *debt) {
	d.dirty = true
	if s.cursors == nil && !s.stopping {
		s.cursors = time.AfterFunc(cursorDelay, s.writeCursors)
	}
}

func (s *Server) writeCursors() {
	s.router.Submit(64, s.cursorsInto, func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cursors = nil
		if err != nil {
			s.log.Error("how far other servers have what is owed to them could not be stored", "error", err)
		}
		s.soilAgain()
	})
}

// cursorsInto writes what arrived since.
func (s *Server) cursorsInto(tx *store.Tx, out *xmpp.Out) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, l := range s.links {
		d := &l.debt
		if !d.dirty {
			continue
		}
		at, owing := d.position()
		if owing {
			store.Progress.Put(tx, progressKey(p), store.Count(at))
		} else {
			store.Progress.Delete(tx, progressKey(p))
		}
		begun := slices.Clone(d.begun)
		out.After(func() { s.cursorWritten(l, at, owing, begun) })
	}
	return nil
}

// cursorWritten: what was begun before the cursor's transaction is committed by now, or never.
func (s *Server) cursorWritten(l *link, at uint64, owing bool, begun []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &l.debt
	d.begun = slices.DeleteFunc(d.begun, func(b uint64) bool { return slices.Contains(begun, b) })
	now, still := d.position()
	d.dirty = now != at || still != owing
	if d.owing = owing; d.dirty {
		s.soil(d)
	}
	if !d.active() {
		s.settleDues(d)
	}
	s.rest(l)
}

// soilAgain is called with the lock.
func (s *Server) soilAgain() {
	for _, l := range s.links {
		if l.debt.dirty {
			s.soil(&l.debt)
			return
		}
	}
}

// pairOf is the pair of a key of progressKey.
func pairOf(key string) (pair, bool) {
	parts := strings.Split(key, "\x00")
	if len(parts) != 3 {
		return pair{}, false
	}
	return pair{parts[1], parts[2]}, true
}
