package c2s

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const (
	// A client that comes to resume a session which ended is told how much of what it sent was handled, for so long, for so many of its account, and
	// for so many in all: the last ones.
	pastTime  = time.Hour
	pastMax   = 32
	pastTotal = 2048
	// sweepMax is how many counts a transaction takes out of the store that is written anyway; when staleMax wait for that, one is written for them.
	sweepMax = 8
	staleMax = 256
)

// streams are the sessions that may be resumed, and for a while those that could have been.
type streams struct {
	mu    sync.Mutex
	links map[string]*link // by stream management id
	past  []past           // in the order of their end
	// stale are keys of counts that nobody is told any more, and that may be in the store; at most pastTotal.
	stale    []string
	sweeping bool // a transaction for them is under way
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

// ended forgets a session, but for its count. many: so many counts are to be taken out of the store that the caller is to do it in a transaction of its
// own, and to tell swept then.
func (s *streams) ended(l *link) (many bool) {
	if l.stream == nil || l.stream.id == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l.stream.id)
	s.remember(past{l.stream.id, l.session.JID.Bare(), l.stream.in.count(), time.Now().Add(pastTime)})
	many = len(s.stale) >= staleMax && !s.sweeping
	s.sweeping = s.sweeping || many
	return many
}

func (s *streams) swept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeping = false
}

// remember keeps a count. It pushes out the oldest of that account, or of all.
func (s *streams) remember(p past) {
	s.past = append(s.past, p)
	same, first := 0, 0
	for i := len(s.past) - 1; i >= 0; i-- {
		if s.past[i].account == p.account {
			same, first = same+1, i
		}
	}
	switch {
	case same > pastMax:
		s.drop(first, first+1)
	case len(s.past) > pastTotal:
		s.drop(0, 1)
	}
}

// drop has counts told no more.
func (s *streams) drop(from, to int) {
	for _, p := range s.past[from:to] {
		s.stale = append(s.stale, progressKey(p.account, p.id))
	}
	s.past = slices.Delete(s.past, from, to)
	if over := len(s.stale) - pastTotal; over > 0 { // nothing can be written for long: the next start finds them
		s.stale = slices.Delete(s.stale, 0, over)
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
func (s *streams) sweep(tx *store.Tx) { s.sweepSome(tx, sweepMax) }

// sweepAll is sweep for all of them.
func (s *streams) sweepAll(tx *store.Tx) { s.sweepSome(tx, math.MaxInt) }

func (s *streams) sweepSome(tx *store.Tx, most int) {
	now := time.Now()
	s.mu.Lock()
	n := 0
	for n < len(s.past) && now.After(s.past[n].until) {
		n++
	}
	s.drop(0, n)
	old := slices.Clone(s.stale[:min(len(s.stale), most)])
	s.mu.Unlock()
	if len(old) == 0 {
		return
	}
	for _, key := range old {
		store.Progress.Delete(tx, key)
	}
	tx.OnCommit(func() { s.forget(old[len(old)-1]) })
}

// forget takes the first ones out, up to a key; some may have gone already.
func (s *streams) forget(last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.stale, last); i >= 0 {
		s.stale = slices.Clone(s.stale[i+1:])
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
