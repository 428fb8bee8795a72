package throttle

import (
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Threshold says from how many remembered failures on a counter acts.
type Threshold struct {
	Free   int // so many cost nothing; from there each further one doubles the delay
	Refuse int // so many make it refuse until one is forgotten; 0 is never
}

// Limits of Logins.
type Limits struct {
	Pair    Threshold // failures of one account from one address
	Address Threshold // failures from one address; of each account only the first Pair.Free count here
	Account Threshold // failures of one account from addresses that are strangers to it; Refuse is not used

	Delay    time.Duration // the first one
	MaxDelay time.Duration // a delay is part of the login: the time allowed before authentication must be longer
	Forget   time.Duration // after which one failure is forgotten
	Trust    time.Duration // how long an address that logged in to an account is no stranger to it

	Counters int // how many counters are kept at most, about 100 bytes each
}

// DefaultLimits let a stranger try 20 passwords at an account, then 6 an hour.
func DefaultLimits() Limits {
	return Limits{
		Pair:     Threshold{Free: 5, Refuse: 20},
		Address:  Threshold{Free: 10, Refuse: 30},
		Account:  Threshold{Free: 5},
		Delay:    time.Second,
		MaxDelay: 20 * time.Second,
		Forget:   10 * time.Minute,
		Trust:    30 * 24 * time.Hour,
		Counters: 16384,
	}
}

const (
	// slack is how far failures are counted past Refuse: it bounds how long a refusal lasts, slack times Forget.
	slack = 6

	// maxTrusted addresses are kept for an account, the latest; a phone gets many from its carrier.
	maxTrusted = 64

	// maxTrustedAccounts bounds the table. Only an account that exists and was logged in to is ever in it.
	maxTrustedAccounts = 4096

	// sample is how many counters are looked at to find one to give up.
	sample = 16
)

// Logins slows the guessing of passwords without locking anybody's own devices out:
//
//   - An address that logged in to an account lately is trusted for it: no failure from elsewhere touches it there. Its own
//     failures delay it, by MaxDelay at most, and never refuse it, as the failing device (with an old password) and
//     the good one may share the address.
//   - A stranger's failures delay it, then refuse that address: for the account it tries, or for all it is a stranger to
//     if it tries several.
//   - Failures from many addresses delay every stranger at that account, and refuse none.
//
// Account names are those that were tried, whether they exist or not; both are treated alike. It is for use by several goroutines.
type Logins struct {
	limits Limits
	now    func() time.Time
	start  time.Time
	seed   maphash.Seed

	mu       sync.Mutex
	counters map[counterKey]counter
	trusted  map[uint64][]trust
}

// A counterKey without account counts an address, without network an account, with both a pair. Accounts are held by hash: a name can
// be 1 kB long, and the attacker picks it.
type counterKey struct {
	network network
	account uint64
	kind    counterKind
}

type counterKind uint8

const (
	pairCounter counterKind = iota
	addressCounter
	accountCounter
)

// A counter's failures are as of its time; times are since Logins' start.
type counter struct {
	failures float64
	at       time.Duration
	pending  int32 // attempts that are under way
}

type trust struct {
	network network
	at      time.Duration // of the last login
}

// NewLogins makes a Logins that remembers nothing yet.
func NewLogins(limits Limits, now func() time.Time) *Logins {
	return &Logins{
		limits:   limits,
		now:      now,
		start:    now(),
		seed:     maphash.MakeSeed(),
		counters: make(map[counterKey]counter),
		trusted:  make(map[uint64][]trust),
	}
}

// An Outcome ends an Attempt.
type Outcome int

// The outcomes. Abandoned is an attempt that ended before a password was checked: the connection broke, the message was malformed.
const (
	Failed Outcome = iota
	Succeeded
	Abandoned
)

// An Attempt is a login under way. Done must be called on each.
type Attempt struct {
	logins  *Logins
	network network
	account uint64
	trusted bool
	pending [3]bool // on which counters, by kind
	done    bool
}

// Begin asks whether addr may try to log in to account (its prepared name). If ok, the caller waits, goes on and calls Done on the Attempt;
// if not, wait is the time after which it is worth another try, and there is no Attempt.
func (l *Logins) Begin(addr netip.Addr, account string) (attempt *Attempt, wait time.Duration, ok bool) {
	a := &Attempt{logins: l, network: networkOf(addr), account: maphash.String(l.seed, account)}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now().Sub(l.start)
	a.trusted = l.trusts(a, now)

	var delay, refusal time.Duration
	for _, kind := range a.kinds() {
		c, known := l.look(a.key(kind), now)
		if !known {
			continue
		}
		threshold := l.threshold(kind)
		load := c.load(threshold.Free)
		if all := c.failures + float64(c.pending); kind == pairCounter && !a.trusted && threshold.Refuse > 0 && all >= float64(threshold.Refuse) {
			load = all // so many at once that none has failed yet
		}
		delay = max(delay, l.delay(load-float64(threshold.Free)))
		if r := float64(threshold.Refuse); r > 0 && load >= r && !a.trusted {
			refusal = max(refusal, l.limits.Delay, time.Duration((c.failures-r)*float64(l.limits.Forget)))
		}
	}
	if refusal > 0 {
		return nil, refusal, false
	}
	for _, kind := range a.kinds() {
		c, known := l.look(a.key(kind), now)
		if !known && kind != pairCounter {
			continue
		}
		if !known {
			l.makeRoom(now)
			c = counter{at: now}
		}
		c.pending++
		l.counters[a.key(kind)] = c
		a.pending[kind] = true
	}
	return a, delay, true
}

// Done tells how the attempt ended. Only the first call counts.
func (a *Attempt) Done(outcome Outcome) {
	l := a.logins
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.done {
		return
	}
	a.done = true
	now := l.now().Sub(l.start)
	l.release(a, now)
	switch outcome {
	case Failed:
		l.fail(a, now)
	case Succeeded:
		l.trust(a, now)
	}
}

// kinds are the counters that an attempt reads.
func (a *Attempt) kinds() []counterKind {
	if a.trusted {
		return []counterKind{pairCounter}
	}
	return []counterKind{pairCounter, addressCounter, accountCounter}
}

func (a *Attempt) key(kind counterKind) counterKey {
	switch kind {
	case addressCounter:
		return counterKey{network: a.network, kind: kind}
	case accountCounter:
		return counterKey{account: a.account, kind: kind}
	}
	return counterKey{network: a.network, account: a.account, kind: kind}
}

func (l *Logins) threshold(kind counterKind) Threshold {
	switch kind {
	case addressCounter:
		return l.limits.Address
	case accountCounter:
		return Threshold{Free: l.limits.Account.Free}
	}
	return l.limits.Pair
}

// look finds a counter as of now, and drops it if there is nothing left in it.
func (l *Logins) look(key counterKey, now time.Duration) (counter, bool) {
	c, ok := l.counters[key]
	if !ok {
		return counter{}, false
	}
	c = c.asOf(now, l.limits.Forget)
	if c.failures == 0 && c.pending == 0 {
		delete(l.counters, key)
		return counter{}, false
	}
	return c, true
}

func (c counter) asOf(now, forget time.Duration) counter {
	if elapsed := now - c.at; elapsed > 0 {
		c.failures = max(0, c.failures-float64(elapsed)/float64(forget))
		c.at = now
	}
	return c
}

// load counts, once there were failures enough to act on, every attempt under way as one more: many at a time must not gain
// over one after the other.
func (c counter) load(free int) float64 {
	if c.failures < float64(free) {
		return c.failures
	}
	return c.failures + float64(c.pending)
}

func (l *Logins) delay(over float64) time.Duration {
	if over < 0 {
		return 0
	}
	return time.Duration(min(float64(l.limits.MaxDelay), float64(l.limits.Delay)*math.Exp2(math.Floor(over))))
}

func (l *Logins) release(a *Attempt, now time.Duration) {
	for kind, held := range a.pending {
		key := a.key(counterKind(kind))
		if c, ok := l.look(key, now); ok && held && c.pending > 0 {
			c.pending--
			if l.counters[key] = c; c.failures == 0 && c.pending == 0 {
				delete(l.counters, key)
			}
		}
	}
}

// fail counts one. A device with an old password fails for ever: of one pair only the first failures speak against the address.
func (l *Logins) fail(a *Attempt, now time.Duration) {
	before := l.count(a.key(pairCounter), now)
	if a.trusted {
		return
	}
	if before < float64(l.limits.Pair.Free) {
		l.count(a.key(addressCounter), now)
	}
	l.count(a.key(accountCounter), now)
}

// count adds a failure to a counter and gives how many there were before.
func (l *Logins) count(key counterKey, now time.Duration) (before float64) {
	c, known := l.look(key, now)
	if !known {
		l.makeRoom(now)
		c = counter{at: now}
	}
	before = c.failures
	t := l.threshold(key.kind)
	c.failures = min(before+1, float64(max(t.Refuse, t.Free)+slack))
	l.counters[key] = c
	return before
}

// makeRoom gives up the counter that says least of a few, so that many addresses with one failure each do not push out one
// with many.
func (l *Logins) makeRoom(now time.Duration) {
	if len(l.counters) < l.limits.Counters {
		return
	}
	var least counterKey
	lowest, seen := math.Inf(1), 0
	for key, c := range l.counters { // begins anywhere
		c = c.asOf(now, l.limits.Forget)
		if weight := c.failures + float64(c.pending); weight < lowest {
			least, lowest = key, weight
		}
		if seen++; seen == sample {
			break
		}
	}
	delete(l.counters, least)
}

func (l *Logins) trusts(a *Attempt, now time.Duration) bool {
	for _, t := range l.trusted[a.account] {
		if t.network == a.network {
			return now-t.at <= l.limits.Trust
		}
	}
	return false
}

// trust keeps the latest first.
func (l *Logins) trust(a *Attempt, now time.Duration) {
	list, known := l.trusted[a.account]
	if !known && len(l.trusted) >= maxTrustedAccounts {
		l.dropStale(now)
		if len(l.trusted) >= maxTrustedAccounts {
			return
		}
	}
	list = slices.DeleteFunc(list, func(t trust) bool { return t.network == a.network || now-t.at > l.limits.Trust })
	list = slices.Insert(list, 0, trust{a.network, now})
	if len(list) > maxTrusted {
		list = list[:maxTrusted]
	}
	l.trusted[a.account] = list
}

func (l *Logins) dropStale(now time.Duration) {
	for account, list := range l.trusted {
		if len(list) == 0 || now-list[0].at > l.limits.Trust {
			delete(l.trusted, account)
		}
	}
}
