package c2s

import "pibox/internal/xmpp"

// weigh counts what waits for a session without a connection, or was not acknowledged by it, among that of all such sessions; with the lock, after
// each change.
func (o *outbox) weigh() {
	if !o.lost && o.weight == 0 { // all that have a connection
		return
	}
	n := 0
	if o.lost {
		n = o.used()
	}
	o.shared.lost.Add(int64(n - o.weight))
	o.weight = n
}

// lose has the outbox counted among those without a connection.
func (o *outbox) lose() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = true
	o.weigh()
}

func (o *outbox) weighs() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.weight
}

// boundLost ends sessions without a connection when too much waits for all of them. It does not block.
func (s *Server) boundLost() {
	if s.tooMuchLost() {
		go s.endLost()
	}
}

func (s *Server) tooMuchLost() bool { return s.outbox.lost.Load() > int64(s.opt.ResumeTotal) }

// endLost lets one session after another give way, as if its time were over.
func (s *Server) endLost() {
	for s.tooMuchLost() && s.endingLost.CompareAndSwap(false, true) { // whoever comes meanwhile is seen by who does it
		l := s.streams.heaviestLost()
		if l != nil && l.finish(l.idle) {
			s.log.Warn("session without a connection gave way: too much waits for all of them", "conn", l.session.ConnID, "jid", l.session.JID.String())
		}
		s.endingLost.Store(false)
		if l == nil { // the others are being resumed
			return
		}
	}
}

// heaviestLost is, of the account for whose sessions without a connection the most waits, the one that has been so for the longest; nil: nothing waits
// for any. So a member who leaves many behind loses his own.
func (s *streams) heaviestLost() *link {
	total := map[xmpp.JID]int{}
	for _, l := range s.all() {
		if _, lost := l.lostAt(); lost {
			total[l.session.JID.Bare()] += l.out.weighs()
		}
	}
	most := 0
	for _, n := range total {
		most = max(most, n)
	}
	if most == 0 {
		return nil
	}
	return s.longestLost(func(l *link) bool { return total[l.session.JID.Bare()] == most && l.out.weighs() > 0 })
}
