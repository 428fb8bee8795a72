package s2s

import (
	"context"
	"time"

	"pibox/internal/xmpp"
)

// Shutdown ends all streams with system-shutdown, after what waits for connected servers went out; what waits for others comes
// back to its senders. It returns when all is over, or with ctx's error when ctx ended first; then connections are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	listeners := s.listeners
	s.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	s.noConnect()
	s.flush(ctx)
	s.mu.Lock()
	for t := range s.streams {
		go t.shutdown()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.kill()
		s.lastCursors()
		return nil
	case <-ctx.Done():
	}
	s.kill()
	s.mu.Lock()
	for t := range s.streams {
		_ = t.socket.Close()
	}
	s.mu.Unlock()
	<-done
	s.lastCursors()
	return ctx.Err()
}

const (
	flushTime  = 1500 * time.Millisecond
	flushCheck = 10 * time.Millisecond
)

// flush waits a while until the queues are empty, then gives back what is left.
func (s *Server) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	look := time.NewTicker(flushCheck)
	defer look.Stop()
	for {
		s.mu.Lock()
		var left []*link
		for _, l := range s.links {
			if l.running {
				left = append(left, l)
			}
		}
		waits := len(left) > 0 || s.awaits()
		s.mu.Unlock()
		if !waits {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			for _, l := range left {
				s.giveUp(l)
			}
			return
		}
	}
}

// shutdown ends a stream because the box stops.
func (t *stream) shutdown() {
	t.mu.Lock()
	started := t.started
	t.mu.Unlock()
	if !started {
		_ = t.socket.Close()
		return
	}
	t.end(&xmpp.StreamError{Condition: "system-shutdown"})
}

// awaits tells whether peers are to acknowledge something; called with the lock.
func (s *Server) awaits() bool {
	for t := range s.streams {
		if t.mgmt.stream == t && t.mgmt.counts && len(t.mgmt.sent) > 0 {
			return true
		}
	}
	return false
}

// lastCursors tells the store what arrived.
func (s *Server) lastCursors() {
	s.mu.Lock()
	if s.cursors != nil {
		s.cursors.Stop()
	}
	s.mu.Unlock()
	if err := s.router.Update(s.cursorsInto); err != nil {
		s.log.Error("how far other servers have what is owed to them could not be stored", "error", err)
	}
}
