package moved

import (
	"testing"
	"time"

	"pibox/internal/xmpp"
)

// However many contacts a family has at one server, that server's limits for claims (row 6) are never met.
func TestPaceStaysBelowTheLimitsOfAContactsHome(t *testing.T) {
	var opt Options
	opt.defaults()
	p, home := &pace{}, limits{perSender: opt.PerSender, perDomain: opt.PerDomain, total: opt.Total}
	nobody := func(string) bool { return false }
	now := time.Unix(0, 0)
	var last time.Time
	members := []string{"a", "b", "c", "d", "e", "f"}
	for i := range 6 * 60 {
		k := claimKey{
			new: xmpp.JID{Local: members[i%len(members)], Domain: "new.example"}, old: xmpp.JID{Local: members[i%len(members)], Domain: "old.example"},
		}
		now = p.when(now, k.new, "montague.example")
		p.take(now, k.new, "montague.example")
		if !home.allow(now, k, false, nobody) {
			t.Fatalf("claim %d, after %v, is over a limit", i, now.Sub(time.Unix(0, 0)))
		}
		home.take(now, k, false, nobody)
		last = now
	}
	if took := last.Sub(time.Unix(0, 0)); took > 3*time.Hour {
		t.Errorf("6 members with 60 contacts each took %v", took)
	}
	if at := p.when(now, xmpp.MustJID("a@new.example"), "verona.example"); !at.Equal(now) {
		t.Error("another server has to wait")
	}
}

// A question that had no answer is asked again at the cost of the domain that is asked, not of its sender; what never left the box costs nobody anything.
func TestLimitsOfWhatIsAskedAgain(t *testing.T) {
	l := limits{perSender: 2, perDomain: 4, total: 10}
	nobody := func(string) bool { return false }
	now := time.Unix(0, 0)
	k := claimKey{account: xmpp.MustJID("romeo@a.example"), old: xmpp.MustJID("j@old.example"), new: xmpp.MustJID("j@new.example")}
	for range 2 {
		l.take(now, k, false, nobody)
	}
	if l.allow(now, k, false, nobody) || !l.allow(now, k, true, nobody) {
		t.Error("the sender is over the limit, the question that is asked again is not")
	}
	l.giveBack(k)
	if !l.allow(now, k, false, nobody) {
		t.Error("what was given back counts")
	}
	for range 3 {
		l.take(now, k, true, nobody)
	}
	if l.allow(now, k, true, nobody) {
		t.Error("the domain is asked more often than it may be")
	}
}
