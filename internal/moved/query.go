package moved

import (
	"cmp"
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A question to an old home has three ends: proof, a definite answer that is none, or no answer at all. The last says nothing of the claim: the home may
// be without power for a moment. Such claims wait together for their home, which is asked by one question at a time until it answers.

const (
	// patience is how long a claim waits for a home that does not answer, counted anew from each start of the box: long enough for a home to come back
	// from a power cut or an update, short enough for a person who has to be asked after all.
	patience = 10 * time.Minute
	// pauseMin, pauseMax: between two questions to such a home.
	pauseMin = 15 * time.Second
	pauseMax = time.Minute
)

// query is a claim that is being verified.
type query struct {
	again bool      // it was repeated while it was asked about
	asked bool      // a question about it left the box
	since time.Time // it was taken up
}

// home is an old home, by its domain, for which claims wait.
type home struct {
	waiting []claimKey // the one whose turn is next comes first
	fails   int        // questions without an answer, one after the other; 0: it answers
	asked   bool       // a question is under way, while it does not answer
	timer   *time.Timer
}

// verdict is the end of a question.
type verdict uint8

const (
	unproven verdict = iota
	proven
	unanswered
)

// judge reads a reply (rows 6 and 7). Id and addresses were compared by Router.Ask.
func (m *Moved) judge(k claimKey, reply *xmpp.Request) verdict {
	switch {
	case m.proves(k, reply):
		return proven
	case m.r.IsLocal(k.old.Domain):
		return unproven
	case reply == nil:
		return unanswered
	case reply.Type != "error":
		return unproven
	}
	switch condition, permanent := errorOf(reply.Node()); {
	case reply.Peer != nil && condition != "" && !permanent: // RFC 6120 §8.3.2: to be asked again later
		return unanswered
	case reply.Peer == nil && (condition == "remote server timeout" || condition == "remote server not found" || condition == "resource constraint"):
		return unanswered
	}
	return unproven
}

// room tells whether a new claim is within the limits; called with the lock held.
func (m *Moved) room(k claimKey) bool {
	within := m.r.IsLocal(k.new.Domain) && m.r.IsLocal(k.old.Domain)
	return (within || m.asking < m.opt.InFlight) && m.limits.allow(time.Now(), k, false, m.r.IsLocal)
}

// query asks the old home for the moved statement (row 6): from the account's bare JID, because a presence access model refuses the
// domain's. One is in flight per claim; a repeat meanwhile schedules one more. Where the home is known not to answer, the claim waits for it.
// false: it would be over a limit.
func (m *Moved) query(k claimKey) bool {
	m.mu.Lock()
	if q := m.running[k]; q != nil {
		q.again = true
		m.mu.Unlock()
		return true
	}
	q := &query{since: time.Now()}
	if h := m.homes[k.old.Domain]; h != nil {
		m.running[k] = q
		h.waiting = append(h.waiting, k)
		m.mu.Unlock()
		return true
	}
	if !m.room(k) {
		m.mu.Unlock()
		return false
	}
	m.running[k] = q
	m.take(k, q)
	m.mu.Unlock()
	m.ask(k)
	return true
}

// resume takes up claims that an earlier run left: all of them wait for their turn, however many they are.
func (m *Moved) resume(all []claimKey) {
	m.mu.Lock()
	for _, k := range all {
		if m.running[k] != nil {
			continue
		}
		m.running[k] = &query{since: time.Now()}
		h := m.home(k.old.Domain)
		h.waiting = append(h.waiting, k)
	}
	m.mu.Unlock()
	m.askWaiting()
}

// home is called with the lock held.
func (m *Moved) home(domain string) *home {
	h := m.homes[domain]
	if h == nil {
		h = &home{}
		m.homes[domain] = h
	}
	return h
}

// take counts a question; called with the lock held.
func (m *Moved) take(k claimKey, q *query) {
	m.limits.take(time.Now(), k, q.asked, m.r.IsLocal)
	q.asked = true
	m.asking++
}

func (m *Moved) ask(k claimKey) {
	m.r.Ask(m.question(k, func(reply *xmpp.Request) {
		if reply != nil {
			m.gone(k.account, reply)
		}
		v := m.judge(k, reply)
		if v != proven {
			m.opt.Log.Debug("moved: a claim is not proven", "account", k.account, "old", k.old, "new", k.new, "answered", v != unanswered, "why", reason(reply))
		}
		if v != unanswered {
			m.answers(k.old.Domain)
		} else if m.await(k, reply != nil && reply.Peer == nil) {
			m.askWaiting()
			return
		}
		m.conclude(k, v)
	}))
}

// reason is what a log says of a reply that proves nothing.
func reason(reply *xmpp.Request) string {
	if reply == nil {
		return "no reply in time"
	}
	condition, _ := errorOf(reply.Node())
	return cmp.Or(condition, "another statement, or none")
}

// answers: an old home does, so that all who wait for it are asked about.
func (m *Moved) answers(domain string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.homes[domain]; h != nil {
		h.fails, h.asked = 0, false
		if h.timer != nil {
			h.timer.Stop()
			h.timer = nil
		}
	}
}

// await lets a claim wait for its home, which did not answer; false where its time is over. A question that never left the box does not count.
func (m *Moved) await(k claimKey, stayed bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, h := m.running[k], m.home(k.old.Domain)
	if h.asked = false; h.timer == nil {
		wait := min(pauseMin<<min(h.fails, 8), pauseMax)
		h.fails++
		h.timer = time.AfterFunc(wait, func() { m.paused(h) })
	}
	if stayed {
		m.limits.giveBack(k)
		q.asked = false
	}
	if time.Since(q.since) >= patience {
		return false
	}
	m.asking--
	h.waiting = append(h.waiting, k)
	return true
}

func (m *Moved) paused(h *home) {
	m.mu.Lock()
	h.timer = nil
	stopped := m.stopped
	m.mu.Unlock()
	if !stopped {
		m.askWaiting()
	}
}

// askWaiting asks about claims that wait, as far as there is room: one for a home that did not answer, after its pause, else all. Whose time is over,
// or who is over a limit, is not asked about any more.
func (m *Moved) askWaiting() {
	var ask, over []claimKey
	m.mu.Lock()
	for domain, h := range m.homes {
		h.waiting = slices.DeleteFunc(h.waiting, func(k claimKey) bool {
			q := m.running[k]
			switch {
			case time.Since(q.since) >= patience, !m.limits.allow(time.Now(), k, q.asked, m.r.IsLocal):
				m.asking++
				over = append(over, k)
			case h.timer == nil && !h.asked && m.asking < m.opt.InFlight:
				q.again = false
				m.take(k, q)
				ask, h.asked = append(ask, k), h.fails > 0
			default:
				return false
			}
			return true
		})
		if len(h.waiting) == 0 && !h.asked {
			if h.timer != nil {
				h.timer.Stop()
			}
			delete(m.homes, domain)
		}
	}
	m.mu.Unlock()
	for _, k := range over {
		m.conclude(k, unanswered)
	}
	for _, k := range ask {
		m.askStanding(k)
	}
}

// askStanding asks about a claim that waited, if it still stands.
func (m *Moved) askStanding(k claimKey) {
	stands := false
	if err := m.r.Store.View(func(tx *store.Tx) error {
		stands = m.isClaimed(tx, k) && m.stands(tx, k)
		return nil
	}); err != nil || !stands {
		m.mu.Lock()
		m.home(k.old.Domain).asked = false
		m.mu.Unlock()
		m.conclude(k, unproven)
		return
	}
	m.ask(k)
}

// conclude ends a query: the effect, one more question, or the ordinary way. It runs on any goroutine and does not block.
func (m *Moved) conclude(k claimKey, v verdict) {
	again := false
	m.r.Submit(512, func(tx *store.Tx, out *xmpp.Out) error {
		if again = v == unproven && m.isClaimed(tx, k) && m.stands(tx, k) && m.wantsAgain(k); again {
			return nil
		}
		return m.settle(tx, out, k, v == proven)
	}, func(err error) {
		m.mu.Lock()
		q := m.running[k]
		m.asking--
		if again && err == nil {
			q.again, q.asked = false, false // its sender wants it
			m.take(k, q)
			m.mu.Unlock()
			m.ask(k)
			return
		}
		delete(m.running, k)
		m.mu.Unlock()
		switch {
		case err != nil: // the claim is still stored
			m.later(k, err)
		case q.again: // it was repeated while the outcome was written
			m.verify(k)
		}
		m.askWaiting()
	})
}

// wantsAgain tells whether the claim was repeated while the question about it was under way, and may be asked about once more.
func (m *Moved) wantsAgain(k claimKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[k].again && m.limits.allow(time.Now(), k, false, m.r.IsLocal)
}
