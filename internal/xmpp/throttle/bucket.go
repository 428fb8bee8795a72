package throttle

import "time"

// A Bucket limits a rate, of bytes or of stanzas: it holds up to burst tokens and gains rate of them per second. It belongs to one
// goroutine; the time is handed in.
type Bucket struct {
	rate, burst, tokens float64
	last                time.Time // zero before first use
}

// NewBucket is a full bucket. rate is in tokens per second; 0 is no limit.
func NewBucket(rate, burst float64) Bucket {
	return Bucket{rate: rate, burst: burst, tokens: burst}
}

// Take takes n tokens for what was already read, into debt if need be, and tells how long not to read on.
func (b *Bucket) Take(now time.Time, n int) time.Duration {
	if b.rate <= 0 {
		return 0
	}
	b.refill(now)
	b.tokens -= float64(n)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// Allow takes n tokens if there are as many, for what can be refused.
func (b *Bucket) Allow(now time.Time, n int) bool {
	if b.rate <= 0 {
		return true
	}
	b.refill(now)
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}

func (b *Bucket) refill(now time.Time) {
	if !b.last.IsZero() {
		b.tokens = min(b.burst, b.tokens+b.rate*max(0, now.Sub(b.last).Seconds()))
	}
	b.last = now
}
