package moved

import (
	"slices"
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
	again    bool // the one before had no answer: its sender did nothing
}

const window = time.Hour

// allow tells whether another question is within the limits; again, one that had no answer. One within the box costs nobody anything.
func (l *limits) allow(now time.Time, k claimKey, again bool, local func(domain string) bool) bool {
	if local(k.new.Domain) && local(k.old.Domain) {
		return true
	}
	for len(l.log) > 0 && now.Sub(l.log[0].at) >= window {
		l.log = l.log[1:]
	}
	sender, from, asked := 0, 0, 0
	for _, g := range l.log {
		if g.new == k.new && !g.again {
			sender++
		}
		if g.new.Domain == k.new.Domain && !g.again || g.old.Domain == k.new.Domain {
			from++
		}
		if g.new.Domain == k.old.Domain && !g.again || g.old.Domain == k.old.Domain {
			asked++
		}
	}
	return (again || sender < l.perSender) && len(l.log) < l.total &&
		(again || from < l.perDomain || local(k.new.Domain)) && (asked < l.perDomain || local(k.old.Domain))
}

// take counts a question that leaves the box, or that somebody elsewhere makes it ask.
func (l *limits) take(now time.Time, k claimKey, again bool, local func(domain string) bool) {
	if local(k.new.Domain) && local(k.old.Domain) {
		return
	}
	l.log = append(l.log, grant{now, k.new, k.old, again})
}

// giveBack takes back that a question was counted.
func (l *limits) giveBack(k claimKey) {
	for i, g := range slices.Backward(l.log) {
		if g.new == k.new && g.old == k.old {
			l.log = slices.Delete(l.log, i, i+1)
			return
		}
	}
}
