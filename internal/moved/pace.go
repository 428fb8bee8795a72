package moved

import (
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// What one server is sent per hour of one new address, and of one new domain: below what a contact's home verifies of them (row 6), because
// what is over its limits is asked of a person.
const (
	paceAddress = 25
	paceDomain  = 150
)

// pace bounds how fast contacts on other servers are told.
type pace struct {
	mu  sync.Mutex
	log []paced // of the last hour, in order
}

type paced struct {
	at  time.Time
	new xmpp.JID
	to  string // domain
}

// when is the earliest time at which another contact at a domain may be told.
func (p *pace) when(now time.Time, new xmpp.JID, domain string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.log) > 0 && now.Sub(p.log[0].at) >= window {
		p.log = p.log[1:]
	}
	var address, family []time.Time
	for _, e := range p.log {
		if e.to != domain || e.new.Domain != new.Domain {
			continue
		}
		family = append(family, e.at)
		if e.new == new {
			address = append(address, e.at)
		}
	}
	at := now
	for _, l := range []struct {
		log  []time.Time
		most int
	}{{address, paceAddress}, {family, paceDomain}} {
		if n := len(l.log); n >= l.most {
			if free := l.log[n-l.most].Add(window); free.After(at) {
				at = free
			}
		}
	}
	return at
}

func (p *pace) take(now time.Time, new xmpp.JID, domain string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, paced{now, new, domain})
}

// load makes up for what a restart forgot of a job.
func (p *pace) load(tx *store.Tx, new xmpp.JID) {
	prefix := store.Key(new.String(), "")
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, c := range store.MoveContacts.All(tx, new.String()) {
		if _, domain, ok := strings.Cut(strings.TrimPrefix(key, prefix), "@"); ok && (c.Step == store.StepAsked || c.Step == store.StepFollowed) && time.Since(c.Since) < window {
			p.log = append(p.log, paced{c.Since, new, domain})
		}
	}
	slices.SortStableFunc(p.log, func(a, b paced) int { return a.at.Compare(b.at) })
}
