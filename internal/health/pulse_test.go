package health

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// trips is a RoundTrip under the test's control.
type trips struct {
	mu      sync.Mutex
	started int
	held    chan error // where a held trip gets its outcome; nil: trips end at once
	outcome error
}

func (tr *trips) trip(ctx context.Context) error {
	tr.mu.Lock()
	tr.started++
	held, outcome := tr.held, tr.outcome
	tr.mu.Unlock()
	if held == nil {
		return outcome
	}
	select {
	case err := <-held:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end makes trips end at once, with err.
func (tr *trips) end(err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.held, tr.outcome = nil, err
}

// hold makes trips wait for what the test sends.
func (tr *trips) hold() chan<- error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.held = make(chan error)
	return tr.held
}

func (tr *trips) count() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.started
}

// withPulse runs f beside a Pulse of 20 s, in a bubble of time. alive counts how often the watchdog was fed.
func withPulse(t *testing.T, f func(h *Health, tr *trips, alive *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		tr, alive := &trips{}, new(atomic.Int64)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			NewPulse(h, tr.trip, 20*time.Second, func() { alive.Add(1) }, quiet()).Run(ctx)
			close(done)
		}()
		f(h, tr, alive)
		cancel()
		<-done
	})
}

// pass lets time pass in the bubble.
func pass(d time.Duration) {
	<-time.After(d) // the bubble's clock, not the machine's
	synctest.Wait()
}

func wantPulse(t *testing.T, h *Health, state State, alive *atomic.Int64, fed int64) {
	t.Helper()
	if h.State() != state || alive.Load() != fed {
		t.Errorf("state %s, fed %d times; want %s, %d", h.State(), alive.Load(), state, fed)
	}
}

func TestPulseBeginsWithReady(t *testing.T) {
	withPulse(t, func(h *Health, tr *trips, alive *atomic.Int64) {
		pass(time.Hour)
		if tr.count() != 0 {
			t.Error("a round trip through a box that is not yet there")
		}
		h.Ready()
		pass(0)
		wantPulse(t, h, Well, alive, 1)
		pass(100*time.Second + time.Millisecond)
		wantPulse(t, h, Well, alive, 6)
	})
}

func TestPulseStalledCard(t *testing.T) {
	withPulse(t, func(h *Health, tr *trips, alive *atomic.Int64) {
		held := tr.hold()
		h.Ready()
		pass(slowAfter - time.Millisecond)
		wantPulse(t, h, Well, alive, 0)
		pass(time.Millisecond)
		wantPulse(t, h, Degraded, alive, 0)
		pass(stuckAfter - slowAfter - time.Millisecond)
		wantPulse(t, h, Degraded, alive, 0)
		pass(time.Millisecond)
		wantPulse(t, h, Failing, alive, 0)
		pass(time.Hour)
		wantPulse(t, h, Failing, alive, 0)
		if n := tr.count(); n != 1 {
			t.Errorf("%d round trips queue behind the one that is stuck", n-1)
		}
		held <- nil
		pass(0)
		wantPulse(t, h, Well, alive, 1)
	})
}

func TestPulseUnusableStoreIsAliveAndFailing(t *testing.T) {
	withPulse(t, func(h *Health, tr *trips, alive *atomic.Int64) {
		tr.end(ErrStoreUnusable)
		h.Set(Fact{"store", Failing, "The database file is damaged."})
		h.Ready()
		pass(0)
		wantPulse(t, h, Failing, alive, 1)
		if n := len(h.Snapshot().Reasons); n != 1 {
			t.Errorf("%d reasons for one matter", n)
		}
		pass(time.Hour)
		wantPulse(t, h, Failing, alive, 181)
		h.Clear("store") // its owner forgot that it is unusable, or is too early
		pass(20 * time.Second)
		wantPulse(t, h, Failing, alive, 182)
		tr.end(nil)
		pass(20 * time.Second)
		wantPulse(t, h, Well, alive, 183)
	})
}

func TestPulseStuckInSpiteOfAnUnusableStore(t *testing.T) {
	withPulse(t, func(h *Health, tr *trips, alive *atomic.Int64) {
		tr.hold()
		h.Set(Fact{"store", Failing, "The disk is full."})
		h.Ready()
		pass(time.Hour)
		wantPulse(t, h, Failing, alive, 0)
	})
}

func TestPulseErrorDoesNotFeedTheWatchdog(t *testing.T) {
	withPulse(t, func(h *Health, tr *trips, alive *atomic.Int64) {
		tr.end(errors.New("the committer is gone: secret detail"))
		h.Ready()
		pass(time.Minute)
		wantPulse(t, h, Failing, alive, 0)
		if text := h.Snapshot().Reasons[0].Text; text != "The box's check of itself fails; its log tells more." {
			t.Errorf("the person sees %q", text)
		}
		tr.end(nil)
		pass(20 * time.Second)
		wantPulse(t, h, Well, alive, 1)
	})
}

// endedUnseen is a context that has ended but whose end loses every race.
type endedUnseen struct{ context.Context }

func (endedUnseen) Done() <-chan struct{} { return nil }
func (endedUnseen) Err() error            { return context.Canceled }

// A round trip that is cut short by the shut-down says nothing about the box, whichever of the two is seen first.
func TestPulseShutDownIsNoFailure(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{ended, endedUnseen{t.Context()}} {
		h := New(time.Now, "1", quiet())
		trip := func(ctx context.Context) error { return ctx.Err() }
		NewPulse(h, trip, time.Second, func() { t.Error("fed") }, quiet()).once(ctx)
		if s := h.Snapshot(); len(s.Reasons) != 0 {
			t.Errorf("reasons %+v", s.Reasons)
		}
	}
}

// A stall of 90 s, begun right after the watchdog was last fed and the pause, must not reach the watchdog's limit.
func TestPulseLeavesRoomForAStall(t *testing.T) {
	for _, tc := range []struct{ watchdog, interval time.Duration }{
		{0, 20 * time.Second},
		{120 * time.Second, 20 * time.Second},
		{180 * time.Second, 20 * time.Second},
		{105 * time.Second, 10 * time.Second},
		{60 * time.Second, 15 * time.Second}, // too short: the stall is not covered, the ordinary case is
		{2 * time.Second, 500 * time.Millisecond},
	} {
		s := &Systemd{watchdog: tc.watchdog}
		if got := s.Interval(); got != tc.interval {
			t.Errorf("WatchdogSec=%v: interval %v, want %v", tc.watchdog, got, tc.interval)
		}
		if tc.watchdog > 100*time.Second && s.Interval()+stuckAfter >= tc.watchdog {
			t.Errorf("WatchdogSec=%v: no room for a stall", tc.watchdog)
		}
	}
}
