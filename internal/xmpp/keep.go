package xmpp

import (
	"fmt"
	"slices"

	"pibox/internal/store"
)

// keeper is a feature that knows something of a session which is to survive a restart of the box.
type keeper struct {
	name    string
	save    func(s *Session) []byte
	restore func(s *Session, saved []byte)
}

// Keep has what a feature knows of a session survive an orderly restart of the box, where the session does (XEP-0198 §5); marks (Session.Mark) do so
// anyway. save may give nil. restore runs for every session that comes back, with nil where nothing was saved: the session is bound, without
// a connection, and has its presence and marks; the hooks of OnPresence run after it, as for initial presence.
func (r *Router) Keep(name string, save func(s *Session) []byte, restore func(s *Session, saved []byte)) {
	r.keepers = append(r.keepers, keeper{name, save, restore})
}

// SaveSession is what RestoreSession needs in the next run.
func (r *Router) SaveSession(s *Session) store.SessionState {
	st := store.SessionState{Resource: s.JID.Resource}
	s.account.mu.Lock()
	if s.presence != nil {
		st.Presence, st.Priority = s.presence.Raw, s.priority
	}
	for name, on := range s.marks {
		if on {
			st.Marks = append(st.Marks, name)
		}
	}
	s.account.mu.Unlock()
	slices.Sort(st.Marks)
	for _, k := range r.keepers {
		if saved := k.save(s); saved != nil {
			if st.Features == nil {
				st.Features = map[string][]byte{}
			}
			st.Features[k.name] = saved
		}
	}
	return st
}

// BindSaved binds a session of an earlier run again, detached and with its presence: nobody is told that it is available, as they all know.
// RestoreSession follows, when all sessions are bound.
func (r *Router) BindSaved(bare JID, saved store.SessionState, connID string, out Outlet) (*Session, error) {
	a := r.account(bare, true)
	s := &Session{
		JID: bare.With(saved.Resource), ConnID: connID, account: a, out: out, priority: saved.Priority, detached: true, confirms: true,
		marks: map[string]bool{},
	}
	for _, name := range saved.Marks {
		s.marks[name] = true
	}
	if saved.Presence != nil {
		var err error
		if s.presence, err = ParseStanza(saved.Presence); err != nil {
			return nil, fmt.Errorf("the presence of %s: %w", s.JID, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.find(saved.Resource) != nil {
		return nil, fmt.Errorf("%s is bound already", s.JID)
	}
	a.sessions = append(slices.Clone(a.sessions), s)
	return s, nil
}

// RestoreSession gives the features what they saved, and runs the hooks of OnPresence.
func (r *Router) RestoreSession(s *Session, saved store.SessionState) {
	for _, k := range r.keepers {
		k.restore(s, saved.Features[k.name])
	}
	now, _ := s.Presence()
	if now == nil {
		return
	}
	for _, f := range r.onPresence {
		f(s, nil, now)
	}
}
