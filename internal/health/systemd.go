package health

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// defaultInterval is the pause between two round trips without a watchdog, and the longest with one.
const defaultInterval = 20 * time.Second

// Systemd tells the service manager how the box is: READY, STOPPING, STATUS in words, WATCHDOG. Without NOTIFY_SOCKET
// in the environment it does nothing.
type Systemd struct {
	h        *Health
	log      *slog.Logger
	watchdog time.Duration // zero: nobody watches
	failed   sync.Once
}

// NewSystemd reads WATCHDOG_USEC and WATCHDOG_PID from the environment (sd_watchdog_enabled(3)).
func NewSystemd(h *Health, log *slog.Logger) *Systemd {
	s := &Systemd{h: h, log: log}
	var err error
	if s.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Error("health: the watchdog's time in the environment is not understood; the watchdog will not be fed", "error", err)
	}
	if s.watchdog > 0 && s.watchdog-stuckAfter < time.Second {
		log.Warn("health: WatchdogSec is too short to sit out a stalled card; set it to 120 or more", "watchdog", s.watchdog)
	}
	return s
}

// Interval returns the pause for [Pulse]. It leaves room for a round trip of 90 s before the watchdog bites where
// WatchdogSec allows it (20 s of 120), and is a quarter of WatchdogSec otherwise.
func (s *Systemd) Interval() time.Duration {
	if s.watchdog == 0 {
		return defaultInterval
	}
	if spare := s.watchdog - stuckAfter; spare >= time.Second {
		return min(spare*2/3, defaultInterval)
	}
	return min(s.watchdog/4, defaultInterval)
}

// Alive feeds the watchdog. Only [Pulse] calls it.
func (s *Systemd) Alive() {
	if s.watchdog > 0 {
		s.send(daemon.SdNotifyWatchdog)
	}
}

// Extend asks for d more, from now, for the start or the stop in progress: TimeoutStartSec and TimeoutStopSec
// (sd_notify(3), EXTEND_TIMEOUT_USEC). Call it before each long step, such as a migration.
func (s *Systemd) Extend(d time.Duration) {
	s.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Run follows the state until ctx ends, and tells the last state before it returns.
func (s *Systemd) Run(ctx context.Context) {
	changes, cancel := s.h.Changes()
	defer cancel()
	var ready, stopping bool
	words := ""
	for ended := false; ; {
		snap, isReady := s.h.Snapshot(), s.h.isReady()
		var lines []string
		if isReady && !ready && snap.State != Stopping {
			ready = true
			lines = append(lines, daemon.SdNotifyReady)
		}
		if snap.State == Stopping && !stopping {
			stopping = true
			lines = append(lines, daemon.SdNotifyStopping)
		}
		if w := snap.statusWords(); w != words {
			words = w
			lines = append(lines, "STATUS="+w)
		}
		if len(lines) > 0 {
			s.send(strings.Join(lines, "\n"))
		}
		if ended {
			return
		}
		select {
		case <-changes:
		case <-ctx.Done():
			ended = true
		}
	}
}

func (s *Systemd) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.failed.Do(func() { s.log.Error("health: systemd can not be told (said once)", "error", err) })
	}
}
