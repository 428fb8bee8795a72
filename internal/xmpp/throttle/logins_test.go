package throttle

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// A clock that stands until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newLogins() (*Logins, *clock) {
	c := &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	return NewLogins(DefaultLimits(), c.now), c
}

// try is one attempt from its start to its end; the clock does not move.
func try(l *Logins, addr, account string, outcome Outcome) (time.Duration, bool) {
	a, wait, ok := l.Begin(netip.MustParseAddr(addr), account)
	if ok {
		a.Done(outcome)
	}
	return wait, ok
}

func wantFree(t *testing.T, l *Logins, addr, account string) {
	t.Helper()
	if wait, ok := try(l, addr, account, Abandoned); !ok || wait != 0 {
		t.Errorf("%s from %s: wait %v, ok %v; want at once", account, addr, wait, ok)
	}
}

func wantRefused(t *testing.T, l *Logins, addr, account string) {
	t.Helper()
	if wait, ok := try(l, addr, account, Abandoned); ok || wait <= 0 {
		t.Errorf("%s from %s: wait %v, ok %v; want refused", account, addr, wait, ok)
	}
}

const (
	home      = "203.0.113.7"
	elsewhere = "198.51.100.9"
)

func TestStrangerIsSlowedThenRefused(t *testing.T) {
	l, clock := newLogins()
	want := []time.Duration{0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20}
	for i, seconds := range want {
		wait, ok := try(l, elsewhere, "juliet", Failed)
		if !ok || wait != seconds*time.Second {
			t.Errorf("attempt %d: wait %v, ok %v; want %v", i, wait, ok, seconds*time.Second)
		}
	}
	wait, ok := try(l, elsewhere, "juliet", Failed)
	if ok || wait != time.Second {
		t.Fatalf("attempt %d: wait %v, ok %v; want refused", len(want), wait, ok)
	}
	clock.advance(wait)
	if _, ok := try(l, elsewhere, "juliet", Failed); !ok {
		t.Error("refused after the wait that was told")
	}
	wait, ok = try(l, elsewhere, "juliet", Failed)
	if ok || wait < 9*time.Minute || wait > 10*time.Minute {
		t.Errorf("wait %v, ok %v; want refused for nearly 10 minutes", wait, ok)
	}
	clock.advance(4 * time.Hour)
	wantFree(t, l, elsewhere, "juliet")
	if len(l.counters) != 0 {
		t.Errorf("%d counters left after all is forgotten", len(l.counters))
	}
}

// The account is guessed from everywhere: none of juliet's own devices waits, and a new one waits but gets in.
func TestAttackFromElsewhere(t *testing.T) {
	l, clock := newLogins()
	try(l, home, "juliet", Succeeded)
	try(l, "2001:db8:1:2::3", "juliet", Succeeded)
	for i := range 500 {
		addr := fmt.Sprintf("10.%d.%d.1", i/250, i%250)
		for range 30 {
			try(l, addr, "juliet", Failed)
		}
		if i%10 == 0 {
			wantFree(t, l, home, "juliet")
			wantFree(t, l, "2001:db8:1:2:aaaa::4", "juliet") // the same /64
			clock.advance(time.Second)
		}
	}
	wait, ok := try(l, "192.0.2.1", "juliet", Abandoned)
	if !ok || wait != 20*time.Second {
		t.Errorf("a new device of juliet's: wait %v, ok %v; want the longest delay and in", wait, ok)
	}
	wantFree(t, l, "192.0.2.1", "nurse")
	wantFree(t, l, home, "juliet")
}

// Refused is the address for the account; other accounts and other addresses go on.
func TestRefusalIsNarrow(t *testing.T) {
	l, _ := newLogins()
	for range 100 {
		try(l, elsewhere, "juliet", Failed)
	}
	wantRefused(t, l, elsewhere, "juliet")
	wantFree(t, l, elsewhere, "nurse")
	if _, ok := try(l, home, "juliet", Abandoned); !ok {
		t.Error("refused elsewhere too")
	}
}

// One address tries many accounts.
func TestSpraying(t *testing.T) {
	l, clock := newLogins()
	try(l, home, "juliet", Succeeded)
	tried := 0
	for i := range 1000 {
		if _, ok := try(l, home, fmt.Sprintf("user%d", i), Failed); ok {
			tried++
		}
	}
	if tried != 30 {
		t.Errorf("%d accounts tried, want 30", tried)
	}
	wantRefused(t, l, home, "nurse")
	wantFree(t, l, home, "juliet") // her device there had logged in before
	clock.advance(4 * time.Hour)
	wantFree(t, l, home, "nurse")
}

// One of juliet's devices has an old password and tries for ever, at home, where all the others are.
func TestDeviceWithOldPassword(t *testing.T) {
	for _, before := range []string{"known at home", "after a restart"} {
		t.Run(before, func(t *testing.T) {
			l, clock := newLogins()
			if before == "known at home" {
				try(l, home, "juliet", Succeeded)
				try(l, home, "nurse", Succeeded)
			}
			for i := range 24 * 60 {
				try(l, home, "juliet", Failed)
				clock.advance(time.Minute)
				wantFree(t, l, home, "nurse")
				wantFree(t, l, home, fmt.Sprintf("guest%d", i%5))
				if before == "known at home" {
					wait, ok := try(l, home, "juliet", Abandoned)
					if !ok || wait > 20*time.Second {
						t.Fatalf("juliet's good device: wait %v, ok %v", wait, ok)
					}
				}
			}
		})
	}
}

// The router comes back and all of the family's devices with it, at a server that has just started too.
func TestFamilyReconnects(t *testing.T) {
	l, _ := newLogins()
	for range 10 {
		try(l, home, "capulet", Failed) // an old password among them
	}
	var attempts []*Attempt
	for i := range 30 {
		a, wait, ok := l.Begin(netip.MustParseAddr(home), fmt.Sprintf("user%d", i/3))
		if !ok || wait != 0 {
			t.Fatalf("device %d: wait %v, ok %v", i, wait, ok)
		}
		attempts = append(attempts, a)
	}
	for _, a := range attempts {
		a.Done(Succeeded)
	}
}

// A guesser who never waits longer than he must, with many connections at a time, for a day.
func TestGuessesInADay(t *testing.T) {
	l, clock := newLogins()
	const connections = 50
	addr := netip.MustParseAddr(elsewhere)
	guesses := 0
	for end := clock.t.Add(24 * time.Hour); clock.t.Before(end); {
		var attempts []*Attempt
		var longest time.Duration
		for range connections {
			if a, wait, ok := l.Begin(addr, "juliet"); ok {
				attempts, longest = append(attempts, a), max(longest, wait)
			}
		}
		clock.advance(longest)
		for _, a := range attempts {
			a.Done(Failed)
			guesses++
		}
		clock.advance(time.Minute)
	}
	if limit := connections + 24*6*2; guesses > limit {
		t.Errorf("%d guesses in a day, want at most %d", guesses, limit)
	}
	t.Logf("%d guesses in a day", guesses)
}

// Another account's success, or the account's own, forgives nothing: a member of the family may be the guesser.
func TestSuccessForgivesNothing(t *testing.T) {
	l, _ := newLogins()
	for range 30 {
		try(l, elsewhere, "juliet", Failed)
		try(l, elsewhere, "tybalt", Succeeded)
	}
	wantRefused(t, l, elsewhere, "juliet")
	wantFree(t, l, elsewhere, "tybalt")
}

// At an address trusted for the account, guessing is slowed and never refused.
func TestGuessingFromTheSofa(t *testing.T) {
	l, _ := newLogins()
	try(l, home, "juliet", Succeeded)
	for i := range 100 {
		wait, ok := try(l, home, "juliet", Failed)
		if !ok || i >= 10 && wait != 20*time.Second {
			t.Fatalf("attempt %d: wait %v, ok %v", i, wait, ok)
		}
	}
	wantFree(t, l, home, "nurse")
	wantFree(t, l, elsewhere, "juliet")
}

func TestTrustEnds(t *testing.T) {
	l, clock := newLogins()
	attack := func() {
		for range 10 {
			try(l, elsewhere, "juliet", Failed)
		}
	}
	try(l, home, "juliet", Succeeded)
	clock.advance(DefaultLimits().Trust)
	attack()
	wantFree(t, l, home, "juliet")
	clock.advance(time.Minute)
	attack()
	if wait, ok := try(l, home, "juliet", Abandoned); !ok || wait == 0 {
		t.Errorf("wait %v, ok %v; want a stranger's delay", wait, ok)
	}
}

func TestTrustIsBounded(t *testing.T) {
	l, clock := newLogins()
	try(l, home, "juliet", Succeeded)
	for i := range maxTrusted {
		clock.advance(time.Minute)
		try(l, fmt.Sprintf("10.0.0.%d", i), "juliet", Succeeded)
	}
	for range maxTrusted {
		try(l, elsewhere, "juliet", Failed)
	}
	wantFree(t, l, "10.0.0.0", "juliet")
	if wait, _ := try(l, home, "juliet", Abandoned); wait == 0 {
		t.Error("the oldest address is still trusted")
	}
	for i := range maxTrustedAccounts + 10 {
		try(l, home, fmt.Sprintf("user%d", i), Succeeded)
	}
	if len(l.trusted) != maxTrustedAccounts {
		t.Errorf("%d accounts, want %d", len(l.trusted), maxTrustedAccounts)
	}
	clock.advance(2 * DefaultLimits().Trust)
	try(l, home, "nurse", Succeeded)
	if len(l.trusted) != 1 {
		t.Errorf("%d accounts after all but one are stale", len(l.trusted))
	}
}

// 20,000 addresses with an invented account each: memory stays bounded, and what is known of the real attackers stays.
func TestMemoryUnderAttack(t *testing.T) {
	clock := &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	limits := DefaultLimits()
	limits.Counters = 500
	l := NewLogins(limits, clock.now)
	for range 21 {
		try(l, elsewhere, "juliet", Failed)
	}
	try(l, home, "juliet", Succeeded)
	for i := range 20_000 {
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)})
		a, _, ok := l.Begin(addr, fmt.Sprintf("user%d", i))
		if !ok {
			t.Fatalf("refused at %d", i)
		}
		a.Done(Failed)
		if len(l.counters) > limits.Counters {
			t.Fatalf("%d counters, want at most %d", len(l.counters), limits.Counters)
		}
	}
	wantRefused(t, l, elsewhere, "juliet")
	wantFree(t, l, home, "juliet")
}

func TestAbandonedIsNoFailure(t *testing.T) {
	l, _ := newLogins()
	for range 100 {
		wantFree(t, l, elsewhere, "juliet")
	}
	if len(l.counters) != 0 {
		t.Errorf("%d counters", len(l.counters))
	}
}

func TestDoneTwice(t *testing.T) {
	l, _ := newLogins()
	a, _, _ := l.Begin(netip.MustParseAddr(elsewhere), "juliet")
	for range 100 {
		a.Done(Failed)
	}
	a.Done(Succeeded)
	wantFree(t, l, elsewhere, "juliet")
	if l.trusts(a, 0) {
		t.Error("trusted by the second Done")
	}
}

func TestAddresses(t *testing.T) {
	same := func(a, b string) bool {
		return networkOf(netip.MustParseAddr(a)) == networkOf(netip.MustParseAddr(b))
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"0.0.0.1", "::1", false},
	} {
		if got := same(tc.a, tc.b); got != tc.want {
			t.Errorf("%s and %s: %v", tc.a, tc.b, got)
		}
	}
	networkOf(netip.Addr{}) // a connection without an address must not panic
}

func TestConcurrentLogins(t *testing.T) {
	l, _ := newLogins()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				try(l, fmt.Sprintf("192.0.2.%d", j%7), fmt.Sprintf("user%d", j%5), Outcome((i+j)%3))
			}
		})
	}
	wg.Wait()
	for key, c := range l.counters {
		if c.pending != 0 {
			t.Errorf("%+v: %d attempts under way", key, c.pending)
		}
	}
}

func BenchmarkLogin(b *testing.B) {
	l, _ := newLogins()
	addr := netip.MustParseAddr(home)
	b.ReportAllocs()
	for b.Loop() {
		a, _, _ := l.Begin(addr, "juliet")
		a.Done(Succeeded)
	}
}

func BenchmarkAttack(b *testing.B) {
	l, _ := newLogins()
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		i++
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		if a, _, ok := l.Begin(addr, "juliet"); ok {
			a.Done(Failed)
		}
	}
}

// Guesses at one account that all begin before the first has failed are no more than those that come one after the other.
func TestManyAtOnce(t *testing.T) {
	l, _ := newLogins()
	var begun []*Attempt
	for range 100 {
		if a, _, ok := l.Begin(netip.MustParseAddr(elsewhere), "juliet"); ok {
			begun = append(begun, a)
		}
	}
	if want := DefaultLimits().Pair.Refuse; len(begun) != want {
		t.Errorf("%d guesses at once, want %d", len(begun), want)
	}
	wantFree(t, l, elsewhere, "romeo")
	for _, a := range begun {
		a.Done(Abandoned)
	}
	wantFree(t, l, elsewhere, "juliet")
	if len(l.counters) != 0 {
		t.Errorf("%d counters are left", len(l.counters))
	}
}
