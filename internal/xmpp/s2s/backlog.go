package s2s

import (
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const (
	scanEntries = 2000        // of the log, read in one transaction
	readAgain   = time.Minute // after the store failed
)

// load takes up what earlier runs left owed.
func (s *Server) load() error {
	return s.router.Store.View(func(tx *store.Tx) error {
		s.earlier = store.LastLogSeq(tx)
		for key, at := range store.Progress.All(tx, store.ProgressSent) {
			p, ok := pairOf(key)
			if !ok {
				s.log.Error("a cursor of what is owed to other servers has no such key", "key", key)
				continue
			}
			l := s.newLink(p)
			l.debt = debt{behind: true, read: uint64(at), owing: true}
		}
		s.loadDues(tx)
		return nil
	})
}

// Start begins to deliver what earlier runs left owed. It is called when the router's handlers are registered.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.debt.active() {
			s.kick(l)
		}
	}
}

// page is what was read of the log for a link.
type page struct {
	items []item
	gone  []uint64 // entries that are not owed any more
	read  uint64   // the log is read up to here
	end   bool     // there was nothing behind it
}

// refill reads what is owed from the log, as far as there is room for it.
func (s *Server) refill(l *link) {
	s.mu.Lock()
	d := &l.debt
	if s.stopping || !d.behind && d.unread == 0 || l.bytes > s.opt.QueueBytes/4 || time.Now().Before(l.readAt) {
		s.mu.Unlock()
		return
	}
	var again []uint64
	for _, o := range d.open {
		if o.state == unread {
			again = append(again, o.seq)
		}
	}
	pg := page{read: d.read}
	bytes, count := min(s.opt.QueueBytes/2-l.bytes, s.opt.QueueTotal/2-s.queued), s.opt.queueStanzas-len(d.open)
	if l.bytes == 0 {
		bytes = max(bytes, 1)
	}
	behind := d.behind
	d.more = false
	s.mu.Unlock()
	err := s.router.Store.View(func(tx *store.Tx) error {
		bytes = s.readAgain(tx, &pg, again, bytes)
		if behind && bytes > 0 {
			s.readOn(tx, &pg, l.pair, bytes, count)
		}
		return nil
	})
	s.mu.Lock()
	var back []bounced
	if err == nil {
		back = s.loaded(l, &pg)
	} else {
		l.readAt = time.Now().Add(readAgain)
	}
	s.mu.Unlock()
	if err != nil {
		s.log.Error("what is owed to another server could not be read", "local", l.pair.local, "remote", l.pair.remote, "error", err)
	}
	s.bounce(back)
}

// readAgain reads entries that are known, and returns how many bytes are left for others.
func (s *Server) readAgain(tx *store.Tx, pg *page, seqs []uint64, bytes int) int {
	for _, seq := range seqs {
		if bytes <= 0 {
			break
		}
		found := false
		for have, e := range store.LogRemote(tx, seq-1) {
			if it, ok := s.parse(have, e); ok && have == seq {
				found = true
				pg.items = append(pg.items, it)
				bytes -= it.cost()
			}
			break
		}
		if !found {
			pg.gone = append(pg.gone, seq)
		}
	}
	return bytes
}

// readOn reads the next entries of a pair.
func (s *Server) readOn(tx *store.Tx, pg *page, p pair, bytes, count int) {
	scanned := 0
	for seq, e := range store.LogRemote(tx, pg.read) {
		if bytes <= 0 || count <= 0 || scanned >= scanEntries {
			return
		}
		scanned++
		pg.read = seq
		it, ok := s.parse(seq, e)
		if !ok || it.st.From.Domain != p.local || it.st.To.Domain != p.remote {
			continue
		}
		pg.items = append(pg.items, it)
		bytes -= it.cost()
		count--
	}
	pg.end = true
}

func (s *Server) parse(seq uint64, e store.Entry) (item, bool) {
	st, err := xmpp.ParseStanza(slices.Clone(e.Stanza))
	if err != nil {
		s.log.Error("an entry of the log is no stanza", "seq", seq, "error", err)
		return item{}, false
	}
	return item{st: st.Stored(seq), at: e.At, until: e.At.Add(s.opt.DurableTime), again: seq <= s.earlier}, true
}

// loaded queues what was read; called with the lock.
func (s *Server) loaded(l *link, pg *page) (back []bounced) {
	d := &l.debt
	now := time.Now()
	for _, it := range pg.items {
		o := d.find(it.st.Seq)
		switch {
		case o == nil && it.st.Seq > d.read:
			d.open = append(d.open, owed{seq: it.st.Seq, state: here, from: it.st.From.Bare(), size: dueSize(it.st)})
		case o != nil && o.state == unread:
			o.state = here
			it.again = it.again || o.again
			d.unread--
		default:
			continue
		}
		if e := s.hopeless(l, it); e != nil {
			back = append(back, bounced{l, it, e})
			continue
		}
		s.push(l, it, now)
	}
	for _, seq := range pg.gone {
		s.arrived(l, seq)
	}
	if d.behind {
		d.read = max(d.read, pg.read)
		d.behind = !pg.end || d.more
		if len(d.open) == 0 {
			s.soil(d)
		}
	}
	return back
}

// writeOff ends what is owed, and tells the senders in the same transaction.
func (s *Server) writeOff(stored []bounced) {
	if len(stored) == 0 {
		return
	}
	size := 0
	for _, b := range stored {
		size += b.cost()
	}
	s.router.Submit(size, func(tx *store.Tx, out *xmpp.Out) error {
		for _, b := range stored {
			store.ForgetRemote(tx, b.st.Seq)
			if b.st.CanFail() && s.router.IsLocal(b.st.From.Domain) {
				out.Send(b.st.Failure(b.err))
			}
		}
		out.After(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, b := range stored {
				s.arrived(b.link, b.st.Seq)
			}
		})
		return nil
	}, func(err error) {
		if err != nil {
			s.log.Error("stanzas for another server could not be given back", "error", err)
			s.owedStill(stored)
		}
	})
}

// owedStill: the store did not take that they are given up. They are read, and given up, again.
func (s *Server) owedStill(stored []bounced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range stored {
		d := &b.link.debt
		if o := d.find(b.st.Seq); o != nil && o.state == here {
			o.state = unread
			o.again = o.again || b.again
			d.unread++
		}
		b.link.readAt = time.Now().Add(readAgain)
		s.kick(b.link)
	}
}
