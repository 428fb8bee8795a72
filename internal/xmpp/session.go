package xmpp

import (
	"crypto/rand"
	"encoding/base32"
	"math"
	"slices"
	"strings"
	"sync"
)

// Outlet is a session's way out, given by the connection. Neither method blocks: Deliver queues; a client that can not keep up loses
// its connection, not the others' time. Deliver reports false when the stanza was not taken.
type Outlet interface {
	Deliver(st *Stanza) bool
	Close(err *StreamError)
}

// Roomy is an Outlet that tells how many bytes it can still queue. Room does not block.
type Roomy interface{ Room() int }

// Session is one bound resource.
type Session struct {
	JID     JID    // full
	ConnID  string // for the log
	account *Account
	out     Outlet

	// Guarded by the account's lock.
	presence *Stanza // last broadcast available presence
	priority int8
	gone     bool
	detached bool
	confirms bool
	marks    map[string]bool
}

// Account is a local account that has, or had, sessions in this run.
type Account struct {
	JID      JID
	exists   bool // guarded by the router's lock
	mu       sync.Mutex
	sessions []*Session // in the order of binding
	era      uint64     // see Router.Era
}

// ConflictPolicy says what happens when a resource is bound twice (RFC 6120 §7.7.2.2).
type ConflictPolicy string

// The policies.
const (
	ConflictReplace ConflictPolicy = "replace" // the older session ends with stream error conflict
	ConflictRename  ConflictPolicy = "rename"  // the newer one gets another resource
	ConflictRefuse  ConflictPolicy = "refuse"  // the newer one is not bound
)

func (r *Router) account(bare JID, create bool) *Account {
	r.mu.RLock()
	a := r.accounts[bare]
	r.mu.RUnlock()
	if a != nil || !create {
		return a
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a = r.accounts[bare]; a == nil {
		a = &Account{JID: bare}
		r.accounts[bare] = a
	}
	return a
}

// Era changes when what an account's logins stand on ends: its password, or the account. A login takes it before it looks at the password
// and again after Bind: whoever ended the sessions meanwhile may have missed that one.
func (r *Router) Era(bare JID) uint64 {
	a := r.account(bare, false)
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.era
}

// EndEra begins another Era; then the sessions are to be ended.
func (r *Router) EndEra(bare JID) {
	a := r.account(bare, true)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.era++
}

// Bind makes a session. resource "" lets the box choose one. nil: the resource is taken and ConflictRefuse says that it stays so.
func (r *Router) Bind(bare JID, resource, connID string, out Outlet, policy ConflictPolicy) *Session {
	a := r.account(bare, true)
	s := &Session{ConnID: connID, account: a, out: out}
	if resource == "" {
		resource = randomName()
	}
	for {
		a.mu.Lock()
		older := a.find(resource)
		if older != nil && policy == ConflictRename {
			resource, older = resource+"-"+randomName(), nil
		}
		if older == nil {
			s.JID = bare.With(resource)
			a.sessions = append(a.sessions, s)
			a.mu.Unlock()
			return s
		}
		a.mu.Unlock()
		if policy == ConflictRefuse && !older.Detached() { // a device that lost its connection comes back as the one it was
			return nil
		}
		older.out.Close(&StreamError{Condition: "conflict", Text: "another device took this resource"})
		r.Unbind(older)
	}
}

// randomName is unguessable: 80 bits.
func randomName() string {
	var b [10]byte
	_, _ = rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// Unbind ends a session; to call it twice does nothing.
func (r *Router) Unbind(s *Session) {
	a := s.account
	a.mu.Lock()
	if s.gone {
		a.mu.Unlock()
		return
	}
	s.gone = true
	a.sessions = slices.DeleteFunc(slices.Clone(a.sessions), func(x *Session) bool { return x == s })
	a.mu.Unlock()
	for _, f := range r.onUnbind {
		f(s)
	}
}

func (a *Account) find(resource string) *Session {
	for _, s := range a.sessions {
		if s.JID.Resource == resource {
			return s
		}
	}
	return nil
}

// Sessions are the sessions of an account, in the order of binding. The slice is not to be changed.
func (r *Router) Sessions(bare JID) []*Session {
	a := r.account(bare, false)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sessions
}

// SessionOf is the session of a full JID, or nil.
func (r *Router) SessionOf(full JID) *Session {
	a := r.account(full.Bare(), false)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.find(full.Resource)
}

// EachSession calls f for every session of the box.
func (r *Router) EachSession(f func(*Session)) {
	r.mu.RLock()
	all := make([]*Account, 0, len(r.accounts))
	for _, a := range r.accounts {
		all = append(all, a)
	}
	r.mu.RUnlock()
	for _, a := range all {
		for _, s := range r.Sessions(a.JID) {
			f(s)
		}
	}
}

// Deliver hands a complete stanza to the session's connection.
func (s *Session) Deliver(st *Stanza) bool { return s.out.Deliver(st) }

// Room is how many bytes the session's connection can still queue; where it does not tell (see Roomy), as many as one likes. What a session
// asked for and can be cut, such as a page of an archive, is cut to it: past it the client would lose its connection.
func (s *Session) Room() int {
	if o, ok := s.out.(Roomy); ok {
		return o.Room()
	}
	return math.MaxInt
}

// Close ends the session's connection with a stream error.
func (s *Session) Close(err *StreamError) { s.out.Close(err) }

// Presence is the last available presence that the session broadcast, and its priority; nil while it is unavailable.
func (s *Session) Presence() (*Stanza, int8) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	return s.presence, s.priority
}

// SetPresence records a session's broadcast presence (nil: unavailable) and runs the hooks of OnPresence.
func (r *Router) SetPresence(s *Session, now *Stanza, priority int8) {
	s.account.mu.Lock()
	old := s.presence
	s.presence, s.priority = now, priority
	s.account.mu.Unlock()
	for _, f := range r.onPresence {
		f(s, old, now)
	}
}

// SetDetached tells that a session has no connection now but may be resumed (XEP-0198 §5), or that it was resumed.
func (r *Router) SetDetached(s *Session, detached bool) {
	s.account.mu.Lock()
	changed := s.detached != detached
	s.detached = detached
	s.account.mu.Unlock()
	if !changed {
		return
	}
	for _, f := range r.onDetached {
		f(s, detached)
	}
}

// Detached tells that the session has no connection now.
func (s *Session) Detached() bool {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	return s.detached
}

// Confirms tells that the client acknowledges what it got (XEP-0198): for that, Router.OnTaken is proof.
func (s *Session) Confirms() bool {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	return s.confirms
}

// SetConfirms tells that from now on the client acknowledges what it gets.
func (s *Session) SetConfirms() {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	s.confirms = true
}

// Mark sets a flag that a feature keeps with the session, under a name of its own.
func (s *Session) Mark(name string, on bool) {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	if s.marks == nil {
		s.marks = map[string]bool{}
	}
	s.marks[name] = on
}

// Marked reads a flag of Mark.
func (s *Session) Marked(name string) bool {
	s.account.mu.Lock()
	defer s.account.mu.Unlock()
	return s.marks[name]
}

// Available are an account's sessions that broadcast available presence.
func (r *Router) Available(bare JID) []*Session {
	a := r.account(bare, false)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*Session
	for _, s := range a.sessions {
		if s.presence != nil {
			out = append(out, s)
		}
	}
	return out
}
