package c2s

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// newLone is a server without listeners, for sessions without connections; st may be nil.
func newLone(st *store.Store, log *slog.Logger, opt Options) *Server {
	return New(Config{Router: xmpp.NewRouter(st, log, []string{"montague.example", "capulet.example"}), TLS: &tls.Config{}, Log: log, Options: opt})
}

// lost is a session of an account that was bound, enabled stream management and lost its connection.
func (s *Server) lost(account xmpp.JID, id string) *link {
	l := s.live(account, id)
	l.out.detach(time.Now())
	l.leave()
	return l
}

// live is one that has its connection, which takes nothing.
func (s *Server) live(account xmpp.JID, id string) *link {
	l := &link{srv: s, out: &outbox{shared: s.outbox, held: true, sm: &unacked{resume: true}}, conn: s.connection()}
	l.session = s.router.Bind(account, id, id, l, xmpp.ConflictReplace)
	l.enable(id, s.opt.ResumeTimeout)
	l.stream.in.key = "" // there is no store
	s.streams.add(l)
	return l
}

// connection is one that resumes.
func (s *Server) connection() *conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{srv: s, ctx: ctx, cancel: cancel}
}

// hook runs f for each line of a log.
type hook func(line string)

func (h hook) Write(b []byte) (int, error) {
	h(string(b))
	return len(b), nil
}

// TestResumedWhenOver: a connection that comes for a session in the very moment in which its time is over gets it, and it lives, or does not get it.
func TestResumedWhenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Pointer[link]
		var over, got atomic.Bool
		s := newLone(nil, slog.New(slog.NewTextHandler(hook(func(line string) {
			if bytes.Contains([]byte(line), []byte("session was not resumed")) {
				l := lost.Load()
				over.Store(true)
				got.Store(l.claim(l.srv.connection()))
			}
		}), nil)), Options{ResumeTimeout: time.Minute})
		l := s.lost(romeo(), "orchard")
		lost.Store(l)
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		if !over.Load() {
			t.Error("its time was not over")
		}
		if there := s.router.SessionOf(l.session.JID) != nil; got.Load() != there {
			t.Errorf("resumed: %v, there: %v", got.Load(), there)
		}
	})
}

// TestTimerOfBefore: a timer that fired when the session was lost before ends nothing: it was resumed and lost again meanwhile.
func TestTimerOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLone(nil, slog.New(slog.DiscardHandler), Options{ResumeTimeout: time.Minute})
		l := s.lost(romeo(), "orchard")
		time.Sleep(59 * time.Second) // virtual
		if !l.claim(s.connection()) {
			t.Fatal("it can not be resumed")
		}
		l.expire()
		l.leave()
		l.expire()
		if s.router.SessionOf(l.session.JID) == nil {
			t.Error("it ended")
		}
		time.Sleep(time.Minute) // virtual
		synctest.Wait()
		if s.router.SessionOf(l.session.JID) != nil {
			t.Error("it did not end when its time was over")
		}
	})
}
