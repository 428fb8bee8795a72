package moved

import (
	"time"

	"pibox/internal/xmpp"
)

// limits bound how many questions requests can make this box ask (row 6): per hour for one claimed new address, for one remote domain,
// be it the sender's or the one that is asked, and in all. Guarded by Moved.mu; the clock is handed in.
type limits struct {
	perSender, perDomain, total int
	log                         []grant // of the last hour, in order
}

type grant struct {
	at       time.Time
	new, old xmpp.JID
}

const window = time.Hour

// allow tells whether another question is within the limits. One within the box costs nobody anything.
func (l *limits) allow(now time.Time, k claimKey, local func(domain string) bool) bool {
	if local(k.new.Domain) && local(k.old.Domain) {
		return true
	}
	for len(l.log) > 0 && now.Sub(l.log[0].at) >= window {
		l.log = l.log[1:]
	}
	sender, from, asked := 0, 0, 0
	for _, g := range l.log {
		if g.new == k.new {
			sender++
		}
		if g.new.Domain == k.new.Domain || g.old.Domain == k.new.Domain {
			from++
		}
		if g.new.Domain == k.old.Domain || g.old.Domain == k.old.Domain {
			asked++
		}
	}
	return sender < l.perSender && len(l.log) < l.total &&
		(from < l.perDomain || local(k.new.Domain)) && (asked < l.perDomain || local(k.old.Domain))
}

// take counts a question that leaves the box, or that somebody elsewhere makes it ask.
func (l *limits) take(now time.Time, k claimKey, local func(domain string) bool) {
	if local(k.new.Domain) && local(k.old.Domain) {
		return
	}
	l.log = append(l.log, grant{now, k.new, k.old})
}
