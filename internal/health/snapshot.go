package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Snapshot is the health of one moment, as `pibox status` shows it.
type Snapshot struct {
	Time          time.Time `json:"time"`
	State         State     `json:"state"`
	Since         time.Time `json:"since"`   // since when State holds
	Reasons       []Reason  `json:"reasons"` // worst first, then oldest first; empty, not null, when there are none
	UptimeSeconds int64     `json:"uptime_seconds"`
	Version       string    `json:"version"`
}

// Reason is a fact that holds.
type Reason struct {
	Name     string    `json:"name"`
	Severity State     `json:"severity"` // moving, degraded or failing
	Text     string    `json:"text"`
	Since    time.Time `json:"since"`
}

// Snapshot returns the health of this moment. Its times are right by today's wall clock even if that was set after the
// facts came up: they are counted back from now.
func (h *Health) Snapshot() Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	back := func(t time.Time) time.Time { return now.Add(-now.Sub(t)).Round(0) }
	s := Snapshot{
		Time: now.Round(0), State: h.state, Since: back(h.since), Reasons: []Reason{},
		UptimeSeconds: int64(now.Sub(h.started) / time.Second), Version: h.version,
	}
	for _, f := range h.facts {
		s.Reasons = append(s.Reasons, Reason{f.Name, f.Severity, f.Text, back(f.since)})
	}
	slices.SortFunc(s.Reasons, func(a, b Reason) int {
		return cmp.Or(rank(a.Severity)-rank(b.Severity), a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name))
	})
	return s
}

func rank(s State) int {
	return slices.Index([]State{Failing, Degraded, Moving}, s)
}

// Text tells the health to a person, in lines.
func (s Snapshot) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pibox %s is %s", s.Version, s.State)
	if s.State != Starting {
		fmt.Fprintf(&b, " for %s", span(s.Time.Sub(s.Since)))
	}
	fmt.Fprintf(&b, ", running for %s.\n", span(time.Duration(s.UptimeSeconds)*time.Second))
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "  %-8s  %s (%s, for %s)\n", r.Severity, r.Text, r.Name, span(s.Time.Sub(r.Since)))
	}
	return b.String()
}

// statusWords tells the health in one line of at most 1500 bytes, for systemd's STATUS=.
func (s Snapshot) statusWords() string {
	words := string(s.State)
	for i, r := range s.Reasons {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		words += sep + r.Text
	}
	return cut(words, 1500)
}

// span tells a duration in its two largest units.
func span(d time.Duration) string {
	type unit struct {
		name string
		size time.Duration
	}
	units := []unit{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
	var parts []string
	for _, u := range units {
		n := d / u.size
		d -= n * u.size
		switch {
		case n == 1:
			parts = append(parts, "1 "+u.name)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", n, u.name))
		}
		if len(parts) == 2 || len(parts) == 1 && n <= 0 {
			break
		}
	}
	if len(parts) == 0 {
		return "less than a second"
	}
	return strings.Join(parts, " ")
}
