package c2s

import (
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const (
	// A client that comes to resume a session which ended is told how much of what it sent was handled, for so long and for so many.
	pastTime = time.Hour
	pastMax  = 1000
	// sweepMax is how many counts one transaction takes out of the store.
	sweepMax = 8
)

// streams are the sessions that may be resumed, and for a while those that could have been.
type streams struct {
	mu    sync.Mutex
	links map[string]*link // by stream management id
	past  []past           // in the order of their end
}

// past is a session that ended; its count may still be in the store.
type past struct {
	id      string
	account xmpp.JID
	handled uint64
	until   time.Time
}

func (s *streams) add(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[l.stream.id] = l
}

// find is the session of an account by its id; nobody learns of another's.
func (s *streams) find(account xmpp.JID, id string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.links[id]; l != nil && l.session.JID.Bare() == account {
		return l
	}
	return nil
}

// longestLost is the session that has been without a connection for the longest, of those that match, or nil.
func (s *streams) longestLost(match func(*link) bool) (longest *link) {
	var since time.Time
	for _, l := range s.all() {
		if !match(l) {
			continue
		}
		if at, lost := l.lostAt(); lost && (longest == nil || at.Before(since)) {
			longest, since = l, at
		}
	}
	return longest
}

// handled is the count of a session that ended.
func (s *streams) handled(account xmpp.JID, id string) (h uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.past {
		if p.id == id && p.account == account && time.Now().Before(p.until) {
			return p.handled, true
		}
	}
	return 0, false
}

func (s *streams) ended(l *link) {
	if l.stream == nil || l.stream.id == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l.stream.id)
	s.remember(past{l.stream.id, l.session.JID.Bare(), l.stream.in.count(), time.Now().Add(pastTime)})
}

func (s *streams) remember(p past) {
	s.past = append(s.past, p)
	if over := len(s.past) - pastMax; over > 0 {
		for i := range s.past[:over] {
			s.past[i].until = time.Time{} // to be swept
		}
		s.past = s.past[max(0, over-pastMax):] // nothing was written for long: the next start finds them
	}
}

// all are the sessions that may be resumed.
func (s *streams) all() []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*link, 0, len(s.links))
	for _, l := range s.links {
		list = append(list, l)
	}
	return list
}

// sweep takes counts that nobody asks for any more out of the store, with a transaction that is written anyway.
func (s *streams) sweep(tx *store.Tx) {
	now := time.Now()
	s.mu.Lock()
	n := 0
	for n < min(len(s.past), sweepMax) && now.After(s.past[n].until) {
		n++
	}
	old := s.past[:n:n]
	s.mu.Unlock()
	if n == 0 {
		return
	}
	for _, p := range old {
		store.Progress.Delete(tx, progressKey(p.account, p.id))
	}
	tx.OnCommit(func() { s.forget(old[n-1].id) })
}

// forget takes the first ones out, up to an id; some may have gone already.
func (s *streams) forget(last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.past {
		if p.id == last {
			s.past = append([]past(nil), s.past[i+1:]...)
			return
		}
	}
}

// load remembers the counts that a run before this one left, but for those of sessions that go on.
func (s *streams) load(tx *store.Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range store.Progress.All(tx, store.ProgressHandled) {
		parts := strings.Split(key, "\x00")
		if len(parts) != 3 || s.links[parts[2]] != nil {
			continue
		}
		account, err := xmpp.ParseJID(parts[1])
		if err == nil {
			s.remember(past{parts[2], account, uint64(n), time.Now().Add(pastTime)})
		}
	}
}

func progressKey(account xmpp.JID, id string) string {
	return store.Key(store.ProgressHandled, account.String(), id)
}
