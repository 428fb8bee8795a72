package c2s

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// save writes the sessions that may be resumed to the store, so that the next start goes on with them: nobody sees them leave. What they asked
// for is still answered, and told to each other; then nothing more is delivered to them. Those that can not be saved end.
func (s *Server) save(ctx context.Context) error {
	var kept []*link
	for _, l := range s.streams.all() {
		if l.freeze() {
			kept = append(kept, l)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	s.settle(ctx, kept)
	records := map[*link]store.SMSession{}
	for _, l := range kept {
		records[l] = l.record()
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
		s.mu.Lock()
		s.saved = kept
		s.mu.Unlock()
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
		_, _ = l.stream.in.settle(ctx)
	}
	behind := make(chan struct{}) // what other servers and the box itself brought
	s.router.Submit(0, func(*store.Tx, *xmpp.Out) error { return nil }, func(error) { close(behind) })
	select {
	case <-behind:
	case <-ctx.Done():
	}
}

// DropIncomplete forgets the sessions that Shutdown saved and that missed something since then, such as a roster push after a change by another
// server: their clients would not know. It is to be called when nothing more arrives.
func (s *Server) DropIncomplete() error {
	s.mu.Lock()
	saved := s.saved
	s.mu.Unlock()
	if !slices.ContainsFunc(saved, func(l *link) bool { return l.missed.Load() }) {
		return nil
	}
	return s.router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for _, l := range saved {
			if l.missed.Load() {
				store.SMSessions.Delete(tx, store.Key(l.session.JID.Bare().String(), l.stream.id))
			}
		}
		return nil
	})
}

// freeze keeps a session without a connection from ending, and connections from it; false: there is nothing to keep.
func (l *link) freeze() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil || l.gone || l.over.Load() {
		return false
	}
	l.gone = true
	l.due.Stop()
	return true
}

// record ends what is delivered to a frozen session and gives what is to be saved.
func (l *link) record() (rec store.SMSession) {
	l.out.shut()
	rec.Handled = l.stream.in.count()
	rec.Session = l.srv.router.SaveSession(l.session)
	rec.Acked = l.out.acked()
	for _, st := range l.out.unsent() {
		rec.Unacked = append(rec.Unacked, store.SMStanza{Stanza: st.Raw, Seq: st.Seq})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rec.Timeout, rec.Left = l.stream.timeout, time.Until(l.end)
	return rec
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
			l.finish(l.idle)
		}
	}
	s.boundLost()
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
	l.out.lose()
	l.enable(b.id, b.record.Timeout)
	l.stream.in.handled = b.handled
	s.streams.add(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait(b.record.Left)
	return l, nil
}
