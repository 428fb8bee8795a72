package s2s

import (
	"slices"
	"time"

	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Bounds of the sessions that peers may resume, and of those of one of them.
const (
	maxDetached   = 256
	detachedShare = 8
)

// detach takes a stream out of use: nothing more goes out on it.
func (s *Server) detach(t *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(t)
}

// leave is detach, called with the lock. What the stream leaves behind is known when its reader ended: until then the link waits.
func (s *Server) leave(t *stream) {
	for _, l := range s.links {
		if l.stream != t {
			continue
		}
		l.stream = nil
		if s.streams[t] {
			l.ending = t
		}
		s.lost++
		l.signal()
		s.rest(l)
	}
}

// forget ends the account of a stream whose reader ended because of why, and that nobody writes to any more. cut tells that neither side said
// good-bye, so that it may be resumed; proven that the peer read it to its end.
func (s *Server) forget(t *stream, why error, cut, proven bool) {
	s.mu.Lock()
	s.leave(t)
	delete(s.streams, t)
	m := t.mgmt
	var back []bounced
	if m.stream == t {
		if proven {
			s.arrive(m, func(e *sent) bool { return !e.counted })
		}
		m.stream = nil
		m.pinging = false
		if m.pinger != nil {
			m.pinger.Stop()
			m.pinger = nil
		}
		s.blame(m, why, cut)
		if !cut || !s.keep(m, t.bidi) {
			delete(s.resumable, m.id)
			back = s.abandon(m)
		}
	}
	for _, l := range s.links {
		if l.ending == t {
			l.ending = nil
			l.signal()
			s.rest(l)
		}
	}
	s.mu.Unlock()
	s.bounce(back)
}

// blame holds the end of a stream against the first stanza that was not known to have arrived, and slows the next attempts down.
func (s *Server) blame(m *management, why error, cut bool) {
	if len(m.sent) == 0 || !cut && !blames(why) {
		return
	}
	e := &m.sent[0]
	e.tries++
	if blames(why) {
		e.faults++
	}
	l := e.link
	l.fails++
	l.triedAt = time.Now()
	l.retryAt = l.triedAt.Add(s.backoff(l))
}

// keep holds a session for being resumed; called with the lock.
func (s *Server) keep(m *management, bidi bool) bool {
	if m.id == "" || s.stopping {
		return false
	}
	l := s.links[m.pair]
	free := l != nil && l.lost == nil && l.stream == nil
	now := time.Now()
	if m.ours {
		m.until, m.eager = now.Add(m.lifetime), now
		if bidi {
			m.eager = now.Add(holdTime)
		}
		if !free {
			return false
		}
		l.lost = m
		s.again(l)
		s.kick(l)
		return true
	}
	id := m.id
	m.until = now.Add(s.opt.ResumeTime)
	m.timer = time.AfterFunc(s.opt.ResumeTime, func() { s.forgetSession(id) })
	s.boundDetached(m.pair.remote)
	if len(m.sent) == 0 {
		return true
	}
	if !free {
		return false
	}
	l.lost, l.hold = m, now.Add(holdTime)
	s.again(l)
	s.kick(l)
	return true
}

// boundDetached forgets a session where one more of a peer is too many: its oldest, or that of the one who has the most.
func (s *Server) boundDetached(remote string) {
	detached, count, oldest := 0, map[string]int{}, map[string]string{} // by peer
	for id, m := range s.resumable {
		if m.stream != nil || len(m.sent) > 0 {
			continue
		}
		peer := m.pair.remote
		detached++
		count[peer]++
		if o := s.resumable[oldest[peer]]; o == nil || m.until.Before(o.until) {
			oldest[peer] = id
		}
	}
	most := remote
	switch {
	case count[remote] > detachedShare:
	case detached <= maxDetached:
		return
	default:
		for peer, id := range oldest {
			if more := count[peer] - count[most]; more > 0 || more == 0 && s.resumable[id].until.Before(s.resumable[oldest[most]].until) {
				most = peer
			}
		}
	}
	s.resumable[oldest[most]].timer.Stop()
	delete(s.resumable, oldest[most])
}

// forgetSession: the peer did not resume it.
func (s *Server) forgetSession(id string) {
	s.mu.Lock()
	m := s.resumable[id]
	if m == nil || m.stream != nil {
		s.mu.Unlock()
		return
	}
	delete(s.resumable, id)
	for _, l := range s.links {
		if l.lost == m {
			l.lost = nil
		}
	}
	back := s.abandon(m)
	s.mu.Unlock()
	s.bounce(back)
}

// lostBy is the session of ours that is to be resumed for a pair.
func (s *Server) lostBy(p pair) *management {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[p]
	if l == nil || l.lost == nil || !l.lost.ours {
		return nil
	}
	return l.lost
}

// abandon gives what is not known to have arrived back to the links, in its order: stored stanzas and presence are sent again, the others come
// back, because the peer may have handled them. Called with the lock.
func (s *Server) abandon(m *management) (back []bounced) {
	m.id = ""
	return s.giveBack(m, func(e *sent) *xmpp.StanzaError {
		remote := e.link.pair.remote
		switch {
		case e.faults >= maxTries:
			return xmpp.Errorf(stanza.UndefinedCondition, "%s ends the connection when it gets this", remote)
		case e.stored(), e.st.Kind == xmpp.Presence:
			e.again = true
			return nil
		}
		return xmpp.Errorf(stanza.RemoteServerTimeout, "the connection to %s was lost, and whether it arrived is not known", remote)
	})
}

// carryOn: a stream goes on with the session of another. What the peer did not count is written again. Called with the lock.
func (s *Server) carryOn(m *management, t *stream) {
	s.giveBack(m, func(*sent) *xmpp.StanzaError { return nil })
	for _, l := range s.links {
		if l.lost == m {
			l.lost = nil
		}
	}
	t.mgmt, m.stream = m, t
	m.asked, m.promised = false, false
}

// giveBack puts what was written back in front of the queues; f gives an error for what is to come back to its sender.
func (s *Server) giveBack(m *management, f func(e *sent) *xmpp.StanzaError) (back []bounced) {
	queues := map[*link][]item{}
	for i := range m.sent {
		e := &m.sent[i]
		l := e.link
		err := f(e)
		switch {
		case e.over:
			s.release(l, e.item)
		case s.stopping:
			s.release(l, e.item) // what is stored stays owed
		case err != nil || s.links[l.pair] != l:
			s.release(l, e.item)
			if err == nil {
				err = l.failure.stanzaError(l.pair.remote)
			}
			back = append(back, bounced{l, e.item, err})
		default:
			queues[l] = append(queues[l], e.item)
		}
	}
	m.sent, m.bytes = nil, 0
	for l, items := range queues {
		l.queue = slices.Concat(items, l.queue)
		s.again(l)
		s.kick(l)
	}
	return back
}
