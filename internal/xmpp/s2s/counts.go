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
