// Package health decides the one state of the box and shows it to systemd, to the board's lights and to `pibox status`.
//
// Features report facts ([Health.Set], [Health.Clear]); the order in [Health.decide] makes a state of them. The sinks
// ([Systemd], [LEDs]) follow the state, and [Pulse] proves that the inside of the daemon still answers.
//
// Start the sinks first, so that a slow start is seen. Call Ready when the box listens, or when it has found that it
// can not and stays up in failing. At the end call Stopping, close everything, then cancel the sinks' context and wait
// for their Run to return: that hands the lights back to the kernel.
package health

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
)

// State is the state of the whole box.
type State string

// The states. What a person sees of each stands in docs/leds.md.
const (
	Starting State = "starting" // not yet serving
	Well     State = "well"     // serving, nothing to report
	Degraded State = "degraded" // serving, with something that needs attention
	Moving   State = "moving"   // serving, while an account is being moved: not the time to pull the plug
	Failing  State = "failing"  // not serving
	Stopping State = "stopping" // going down in order
)

// maxText is the limit of a fact's text in bytes. All reasons together must fit the 4096 bytes of a notification to
// systemd with room to spare; see statusWords.
const maxText = 300

// Fact is a condition that a feature reports for as long as it holds.
type Fact struct {
	// Name identifies the fact, for Clear and for programs, as in "store" or "move/juliet".
	Name string
	// Severity is the state the fact calls for: Moving, Degraded or Failing. Anything else counts as Degraded.
	Severity State
	// Text tells a person what is the matter and what to do, in one plain sentence without secrets. Line breaks and
	// control characters become spaces, and it is cut at 300 bytes.
	Text string
}

// Health holds the facts and the state that follows from them. Its methods may be called from any goroutine; none
// of them blocks or does I/O, except for one log line per change.
type Health struct {
	now     func() time.Time
	log     *slog.Logger
	version string
	started time.Time

	mu       sync.Mutex
	ready    bool
	stopping bool
	facts    map[string]entry
	state    State
	since    time.Time
	watchers map[chan struct{}]struct{}
}

type entry struct {
	Fact
	since time.Time
}

// New returns a Health in Starting. now is the clock: time.Now, whose monotonic part keeps durations right when the
// wall clock of a board without a battery jumps.
func New(now func() time.Time, version string, log *slog.Logger) *Health {
	t := now()
	return &Health{
		now: now, log: log, version: version, started: t,
		facts: map[string]entry{}, state: Starting, since: t,
		watchers: map[chan struct{}]struct{}{},
	}
}

// Set reports that f holds. Reporting it again replaces text and severity; the time since when it holds stays, unless
// the severity changed.
func (h *Health) Set(f Fact) {
	if f.Severity != Moving && f.Severity != Failing {
		f.Severity = Degraded
	}
	f.Text = oneLine(f.Text)
	news := false
	h.change(func() bool {
		old, known := h.facts[f.Name]
		if known && old.Fact == f {
			return false
		}
		news = !known || old.Severity != f.Severity
		since := old.since
		if news {
			since = h.now()
		}
		h.facts[f.Name] = entry{f, since}
		return true
	})
	if news {
		h.log.Log(context.Background(), level(f.Severity), "health: "+f.Text, "fact", f.Name, "severity", f.Severity)
	}
}

// Clear reports that the fact of that name holds no longer. An unknown name is no mistake.
func (h *Health) Clear(name string) {
	known := false
	h.change(func() bool {
		_, known = h.facts[name]
		delete(h.facts, name)
		return known
	})
	if known {
		h.log.Info("health: over", "fact", name)
	}
}

// Ready ends Starting: the box listens, or a failing fact tells why it does not and the daemon stays up to say so.
func (h *Health) Ready() {
	h.change(func() bool { h.ready = true; return true })
}

// Stopping begins the orderly shut-down. There is no way back.
func (h *Health) Stopping() {
	h.change(func() bool { h.stopping = true; return true })
}

// State returns the state of this moment.
func (h *Health) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// isReady tells whether Ready was called.
func (h *Health) isReady() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

// failsBesides tells whether a failing fact other than name holds.
func (h *Health) failsBesides(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.facts {
		if f.Severity == Failing && f.Name != name {
			return true
		}
	}
	return false
}

// Changes returns a channel that holds a token after anything changed since it was last read, and a function that ends
// the subscription. Several changes may leave one token: read the Snapshot, which is always the newest.
func (h *Health) Changes() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	h.watchers[c] = struct{}{}
	h.mu.Unlock()
	return c, func() {
		h.mu.Lock()
		delete(h.watchers, c)
		h.mu.Unlock()
	}
}

// change runs f under the lock; if f reports a change, it decides the state anew and wakes the watchers.
func (h *Health) change(f func() bool) {
	h.mu.Lock()
	if !f() {
		h.mu.Unlock()
		return
	}
	before := h.state
	h.state = h.decide()
	if h.state != before {
		h.since = h.now()
	}
	after := h.state
	for c := range h.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	h.mu.Unlock()
	if after != before {
		h.log.Log(context.Background(), level(after), "health: the box is "+string(after), "before", before)
	}
}

// decide is the state machine: the first state in this order that applies. Moving stands before Degraded because it
// asks for something now (leave the plug in), and the reasons of Degraded are listed all the same.
func (h *Health) decide() State {
	called := map[State]bool{}
	for _, f := range h.facts {
		called[f.Severity] = true
	}
	switch {
	case h.stopping:
		return Stopping
	case called[Failing]:
		return Failing
	case !h.ready:
		return Starting
	case called[Moving]:
		return Moving
	case called[Degraded]:
		return Degraded
	}
	return Well
}

func level(s State) slog.Level {
	switch s {
	case Failing:
		return slog.LevelError
	case Degraded:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// oneLine makes a text fit for one line of any sink; a line break would begin a new variable in sd_notify's protocol.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	return cut(s, maxText)
}

// cut shortens s to at most n bytes, at a character boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:n-len(more)], "") + more
}
