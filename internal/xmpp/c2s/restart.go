package c2s

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// save writes the sessions that may be resumed to the store, so that the next start goes on with them: nobody sees them leave. Nothing is
// delivered to them from now on. Those that can not be saved end.
func (s *Server) save(ctx context.Context) error {
	links := s.streams.all()
	s.settle(ctx, links)
	records := map[*link]store.SMSession{}
	for _, l := range links {
		if rec, ok := l.freeze(ctx); ok {
			records[l] = rec
		}
	}
	if len(records) == 0 {
		return nil
	}
	done := make(chan error, 1)
	s.router.Submit(0, func(tx *store.Tx, _ *xmpp.Out) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		for l, rec := range records {
			account := l.session.JID.Bare()
			rec.Login = login(tx, account)
			l.stream.in.write(tx)
			store.SMSessions.Put(tx, store.Key(account.String(), l.stream.id), rec)
		}
		return nil
	}, func(err error) { done <- err })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	for l := range records {
		l.guard(func() { s.router.Unbind(l.session) })
	}
	return fmt.Errorf("c2s: saving sessions: %w", err)
}

// settle waits until all that is being stored is, and has gone to the sessions that are to see it, or until ctx ends.
func (s *Server) settle(ctx context.Context, links []*link) {
	for _, l := range links {
		l.stream.in.settle(ctx)
	}
	if len(links) == 0 {
		return
	}
	behind := make(chan struct{}) // what other servers and the box itself brought
	s.router.Submit(0, func(*store.Tx, *xmpp.Out) error { return nil }, func(error) { close(behind) })
	select {
	case <-behind:
	case <-ctx.Done():
	}
}

// freeze ends the work of a session without a connection and gives what is to be saved.
func (l *link) freeze(ctx context.Context) (rec store.SMSession, ok bool) {
	l.mu.Lock()
	ok = l.conn == nil && !l.gone && !l.over.Load()
	if ok {
		l.gone = true
		l.due.Stop()
	}
	left := time.Until(l.end)
	l.mu.Unlock()
	if !ok {
		return rec, false
	}
	l.out.shut()
	rec.Handled, _ = l.stream.in.settle(ctx)
	rec.Session = l.srv.router.SaveSession(l.session)
	rec.Acked = l.out.acked()
	for _, st := range l.out.unsent() {
		rec.Unacked = append(rec.Unacked, store.SMStanza{Stanza: st.Raw, Seq: st.Seq})
	}
	rec.Timeout, rec.Left = l.stream.timeout, left
	return rec, true
}

// login tells by which credentials an account can log in now.
func login(tx *store.Tx, account xmpp.JID) []byte {
	acc, ok := store.Accounts.Get(tx, account.String())
	if !ok || acc.Closed != nil {
		return nil
	}
	sum := sha256.Sum256(bytes.Join([][]byte{acc.SHA256.Salt, acc.SHA256.StoredKey, acc.SHA1.StoredKey}, nil))
	return sum[:16]
}

// saved is a session of the last run.
type saved struct {
	account xmpp.JID
	id      string
	record  store.SMSession
	handled uint64
	same    bool // the credentials are what they were
}

// Restore goes on with the sessions that Shutdown saved. It is to be called before Serve, when other servers can be reached.
func (s *Server) Restore() error {
	var back []saved
	err := s.router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		back = nil
		for key, rec := range store.SMSessions.All(tx) {
			store.SMSessions.Delete(tx, key) // whatever happens now, it is not there twice
			name, id, _ := strings.Cut(key, "\x00")
			account, err := xmpp.ParseJID(name)
			if now := login(tx, account); err == nil && now != nil {
				n, _ := store.Progress.Get(tx, progressKey(account, id))
				back = append(back, saved{account, id, rec, max(rec.Handled, uint64(n)), bytes.Equal(now, rec.Login)})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("c2s: sessions of the last run: %w", err)
	}
	links := make([]*link, len(back))
	for i, b := range back {
		if links[i], err = s.rebind(b); err != nil {
			s.log.Warn("a session does not come back", "account", b.account.String(), "error", err)
		}
	}
	for i, l := range links {
		if l == nil {
			continue
		}
		l.guard(func() { s.router.RestoreSession(l.session, back[i].record.Session) })
		if !back[i].same {
			l.finish()
		}
	}
	return s.router.Store.View(func(tx *store.Tx) error {
		s.streams.load(tx)
		return nil
	})
}

// rebind is a session as it was left, without a connection.
func (s *Server) rebind(b saved) (*link, error) {
	u := &unacked{resume: true, acked: b.record.Acked}
	for _, kept := range b.record.Unacked {
		st, err := xmpp.ParseStanza(kept.Stanza)
		if err != nil {
			return nil, err
		}
		u.add(st.Stored(kept.Seq), item{st: st}.cost())
	}
	l := &link{srv: s, out: &outbox{shared: s.outbox, held: true, sm: u}}
	var err error
	if l.session, err = s.router.BindSaved(b.account, b.record.Session, s.newID(), l); err != nil {
		return nil, err
	}
	l.enable(b.id, b.record.Timeout)
	l.stream.in.handled = b.handled
	s.streams.add(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait(b.record.Left)
	return l, nil
}
