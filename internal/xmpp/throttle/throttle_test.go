package throttle

import (
	"net/netip"
	"testing"
	"time"
)

func TestConnections(t *testing.T) {
	c := NewConnections(2)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2") // one /64
	other := netip.MustParseAddr("192.0.2.1")
	for i, step := range []struct {
		addr netip.Addr
		want bool
	}{{a, true}, {b, true}, {a, false}, {other, true}, {b, false}} {
		if got := c.Acquire(step.addr); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	c.Release(a)
	if !c.Acquire(b) {
		t.Error("no room after a release")
	}
	c.Release(a)
	c.Release(b)
	c.Release(other)
	c.Release(other) // one too many is not a credit
	if len(c.open) != 0 {
		t.Errorf("%d addresses left", len(c.open))
	}
	for i := range 2 {
		if !c.Acquire(other) {
			t.Errorf("connection %d refused", i)
		}
	}
	if c.Acquire(other) {
		t.Error("a third connection")
	}
	unlimited := NewConnections(0)
	for range 1000 {
		if !unlimited.Acquire(other) {
			t.Fatal("refused without a limit")
		}
	}
}

func TestBucketTake(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b := NewBucket(1000, 4000)
	for i, step := range []struct {
		after time.Duration
		n     int
		want  time.Duration
	}{
		{0, 4000, 0},                                    // the burst
		{0, 500, 500 * time.Millisecond},                // into debt
		{500 * time.Millisecond, 0, 0},                  // paid
		{time.Hour, 4000, 0},                            // never more than the burst
		{0, 1, time.Millisecond},                        //
		{-time.Hour, 0, time.Millisecond},               // a clock that goes back gives nothing and takes nothing
		{time.Millisecond, 100, 100 * time.Millisecond}, //
		{50 * time.Millisecond, 0, 50 * time.Millisecond},
	} {
		now = now.Add(step.after)
		if got := b.Take(now, step.n); got.Round(time.Microsecond) != step.want {
			t.Errorf("step %d: wait %v, want %v", i, got, step.want)
		}
	}
}

func TestBucketAllow(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	b := NewBucket(2, 3)
	for i, step := range []struct {
		after time.Duration
		n     int
		want  bool
	}{
		{0, 4, false},
		{0, 2, true},
		{0, 1, true},
		{0, 1, false}, // and a refusal costs nothing
		{500 * time.Millisecond, 1, true},
		{time.Minute, 3, true},
		{0, 1, false},
	} {
		now = now.Add(step.after)
		if got := b.Allow(now, step.n); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

func TestBucketWithoutLimit(t *testing.T) {
	b := NewBucket(0, 0)
	if wait := b.Take(time.Now(), 1<<30); wait != 0 || !b.Allow(time.Now(), 1<<30) {
		t.Error("limited")
	}
}
