package s2s

// Counts tells how many connections there are from and to other servers, and how many stanzas wait for one.
func (s *Server) Counts() (in, out, queued int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		queued += len(l.queue)
	}
	return s.inbound, max(0, len(s.streams)-s.inbound), queued
}

// Lost counts the streams that ended after something may have gone out on them. What was written to one may not have arrived, whatever the
// peer answers on the next: who must know compares the count before the first stanza with the one at the answer.
func (s *Server) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}
