package health

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// RoundTrip sends something harmless through the router and the committer (an empty operation, never a write) and
// returns when it came back. It must return soon after its context ends.
//
// While the store can not be used it returns [ErrStoreUnusable] at once. A round trip that is merely slow must not
// return an error on its own account: [Pulse] measures how long it takes.
type RoundTrip func(context.Context) error

// ErrStoreUnusable is the RoundTrip's answer while its store is known to be unusable and is being reopened. The daemon
// is then alive and failing; a restart would not help, so the watchdog is still fed.
var ErrStoreUnusable = errors.New("health: the store is unusable, and is being reopened")

const (
	// slowAfter is how long a round trip may take before the box counts as degraded, and stuckAfter before it counts
	// as failing: cards have been seen to stall for 30 s.
	slowAfter  = 5 * time.Second
	stuckAfter = 90 * time.Second

	pulseFact = "round-trip"
)

// Pulse makes a round trip through the daemon again and again, reports slow, stuck and failed ones as a fact, and feeds
// the watchdog after each that came back.
type Pulse struct {
	h        *Health
	trip     RoundTrip
	interval time.Duration
	alive    func()
	log      *slog.Logger
}

// NewPulse returns a Pulse that pauses for interval between round trips ([Systemd.Interval]) and calls alive
// ([Systemd.Alive]) after each that came back in order or with ErrStoreUnusable.
func NewPulse(h *Health, trip RoundTrip, interval time.Duration, alive func(), log *slog.Logger) *Pulse {
	return &Pulse{h, trip, interval, alive, log}
}

// Run makes round trips, never two at a time, from Ready until ctx ends.
func (p *Pulse) Run(ctx context.Context) {
	changes, cancel := p.h.Changes()
	defer cancel()
	for !p.h.isReady() {
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		p.once(ctx)
		pause.Reset(p.interval)
	}
}

// once makes one round trip and waits for its end however long it takes: one that is stuck is proof enough, and a
// second would only queue behind it.
func (p *Pulse) once(ctx context.Context) {
	done := make(chan error, 1)
	go func() { done <- p.trip(ctx) }()
	slow, stuck := time.NewTimer(slowAfter), time.NewTimer(stuckAfter)
	defer slow.Stop()
	defer stuck.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() == nil {
				p.judge(err)
			}
			return
		case <-slow.C:
			p.h.Set(Fact{pulseFact, Degraded, "The box answers slowly: its SD card or disk may be busy or wearing out."})
		case <-stuck.C:
			p.h.Set(Fact{pulseFact, Failing, "The box does not answer any more: its SD card, its disk or the program itself hangs. If it does not recover by itself in a few minutes, restart it."})
		case <-ctx.Done():
			return
		}
	}
}

func (p *Pulse) judge(err error) {
	switch {
	case err == nil:
		p.h.Clear(pulseFact)
		p.alive()
	case errors.Is(err, ErrStoreUnusable):
		if p.h.failsBesides(pulseFact) {
			p.h.Clear(pulseFact) // the store's own words say more
		} else {
			p.h.Set(Fact{pulseFact, Failing, "Nothing can be stored, so the box does not serve. It keeps trying."})
		}
		p.alive()
	default:
		p.log.Error("health: round trip failed", "error", err)
		p.h.Set(Fact{pulseFact, Failing, "The box's check of itself fails; its log tells more."})
	}
}
