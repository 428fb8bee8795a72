package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// fakeClock is a clock without a monotonic part.
type fakeClock struct{ t time.Time }

func (c *fakeClock) now() time.Time { return c.t }

func newClock() *fakeClock { return &fakeClock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestState(t *testing.T) {
	degraded := func(h *Health) { h.Set(Fact{"cert", Degraded, "d"}) }
	moving := func(h *Health) { h.Set(Fact{"move/juliet", Moving, "m"}) }
	failing := func(h *Health) { h.Set(Fact{"store", Failing, "f"}) }
	ready, stopping := (*Health).Ready, (*Health).Stopping
	over := func(name string) func(*Health) { return func(h *Health) { h.Clear(name) } }
	type steps []func(*Health)
	for _, tc := range []struct {
		name string
		do   steps
		want State
	}{
		{"nothing said", nil, Starting},
		{"a warning while starting", steps{degraded}, Starting},
		{"a move goes on while starting", steps{moving}, Starting},
		{"the store can not be opened", steps{failing}, Failing},
		{"the same, start-up over", steps{failing, ready}, Failing},
		{"start-up survives a failure", steps{failing, over("store")}, Starting},
		{"ready", steps{ready}, Well},
		{"ready twice", steps{ready, ready}, Well},
		{"warning", steps{ready, degraded}, Degraded},
		{"warning before ready", steps{degraded, ready}, Degraded},
		{"move", steps{ready, moving}, Moving},
		{"move in spite of a warning", steps{ready, degraded, moving}, Moving},
		{"move over, warning stays", steps{ready, degraded, moving, over("move/juliet")}, Degraded},
		{"failure beats all", steps{ready, degraded, moving, failing}, Failing},
		{"failure over", steps{ready, failing, over("store")}, Well},
		{"an unknown fact is over", steps{ready, over("nobody")}, Well},
		{"stopping beats failure", steps{ready, failing, stopping}, Stopping},
		{"no way back from stopping", steps{stopping, ready}, Stopping},
		{"a severity that is none", steps{ready, func(h *Health) { h.Set(Fact{"x", "odd", "o"}) }}, Degraded},
		{"a fact grows worse", steps{ready, degraded, func(h *Health) { h.Set(Fact{"cert", Failing, "d"}) }}, Failing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := New(newClock().now, "1", quiet())
			for _, do := range tc.do {
				do(h)
			}
			if got := h.State(); got != tc.want {
				t.Errorf("State() = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestSnapshotForPeopleAndPrograms(t *testing.T) {
	clock := newClock()
	h := New(clock.now, "0.1.0", quiet())
	if got, want := h.Snapshot().Text(), "pibox 0.1.0 is starting, running for less than a second.\n"; got != want {
		t.Errorf("at start:\n%swant:\n%s", got, want)
	}
	clock.t = clock.t.Add(time.Second)
	h.Ready()
	clock.t = clock.t.Add(26*time.Hour + 5*time.Minute)
	h.Set(Fact{"cert", Degraded, "The certificate ends in 3 days."})
	clock.t = clock.t.Add(61 * time.Second)
	h.Set(Fact{"move/romeo", Moving, "Romeo's account is moving."})
	h.Set(Fact{"cert", Degraded, "The certificate ends in 2 days."}) // a new text, the same matter
	clock.t = clock.t.Add(10 * time.Second)
	h.Set(Fact{"store", Failing, "The disk is full."})

	wantText := `pibox 0.1.0 is failing for less than a second, running for 1 day 2 hours.
  failing   The disk is full. (store, for less than a second)
  degraded  The certificate ends in 2 days. (cert, for 1 minute 11 seconds)
  moving    Romeo's account is moving. (move/romeo, for 10 seconds)
`
	if got := h.Snapshot().Text(); got != wantText {
		t.Errorf("Text():\n%swant:\n%s", got, wantText)
	}
	wantWords := "failing: The disk is full.; The certificate ends in 2 days.; Romeo's account is moving."
	if got := h.Snapshot().statusWords(); got != wantWords {
		t.Errorf("statusWords() = %q, want %q", got, wantWords)
	}

	got, err := json.MarshalIndent(h.Snapshot(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	wantJSON := `{
 "time": "2026-05-02T14:06:12Z",
 "state": "failing",
 "since": "2026-05-02T14:06:12Z",
 "reasons": [
  {
   "name": "store",
   "severity": "failing",
   "text": "The disk is full.",
   "since": "2026-05-02T14:06:12Z"
  },
  {
   "name": "cert",
   "severity": "degraded",
   "text": "The certificate ends in 2 days.",
   "since": "2026-05-02T14:05:01Z"
  },
  {
   "name": "move/romeo",
   "severity": "moving",
   "text": "Romeo's account is moving.",
   "since": "2026-05-02T14:06:02Z"
  }
 ],
 "uptime_seconds": 93972,
 "version": "0.1.0"
}`
	if string(got) != wantJSON {
		t.Errorf("JSON:\n%s\nwant:\n%s", got, wantJSON)
	}
	var back Snapshot
	if err := json.Unmarshal(got, &back); err != nil || back.Text() != wantText {
		t.Errorf("Text() after JSON, error %v:\n%s", err, back.Text())
	}
	if empty, _ := json.Marshal(New(clock.now, "1", quiet()).Snapshot().Reasons); string(empty) != "[]" {
		t.Errorf("no reasons are %s in JSON, want []", empty)
	}
}

// The times of a snapshot are counted back from its own, and compare by what they show: with the monotonic part that
// time.Now adds, they would compare by that.
func TestSnapshotTimes(t *testing.T) {
	start := time.Now()
	elapsed := time.Duration(0)
	h := New(func() time.Time { return start.Add(elapsed) }, "1", quiet())
	elapsed = time.Hour
	h.Set(Fact{"x", Degraded, "x"})
	elapsed = 3 * time.Hour
	s := h.Snapshot()
	if got := s.Time.Sub(s.Reasons[0].Since); got != 2*time.Hour {
		t.Errorf("the fact holds for %v, want 2h", got)
	}
	for _, at := range []time.Time{s.Time, s.Since, s.Reasons[0].Since} {
		if at != at.Round(0) {
			t.Errorf("%v has a monotonic part", at)
		}
	}
}

func TestTextsFitEverySink(t *testing.T) {
	h := New(newClock().now, "1", quiet())
	h.Ready()
	for i := range 40 {
		h.Set(Fact{fmt.Sprint(i), Degraded, "peer \n\x1b[31mWATCHDOG=1\r\u2028\u0085 \xff" + strings.Repeat("é", 4000)})
	}
	s := h.Snapshot()
	for _, r := range s.Reasons {
		if len(r.Text) > maxText || !utf8.ValidString(r.Text) || strings.ContainsAny(r.Text, "\n\r\x1b\u2028\u0085") {
			t.Fatalf("text %q", r.Text)
		}
	}
	if !strings.HasPrefix(s.Reasons[0].Text, "peer [31mWATCHDOG=1 \uFFFDéé") || !strings.HasSuffix(s.Reasons[0].Text, "é…") {
		t.Errorf("text %q", s.Reasons[0].Text)
	}
	if words := s.statusWords(); len(words) > 1500 || !utf8.ValidString(words) || strings.Contains(words, "\n") {
		t.Errorf("status words %q", words)
	}
}

func TestChangesAreLoggedOnceAndWithoutNoise(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	h := New(newClock().now, "1", log)
	h.Ready()
	h.Ready()
	h.Set(Fact{"disk", Degraded, "10 % free"})
	h.Set(Fact{"disk", Degraded, "10 % free"})
	h.Set(Fact{"disk", Degraded, "9 % free"})
	h.Set(Fact{"disk", Failing, "full"})
	h.Clear("disk")
	h.Clear("disk")
	want := `level=INFO msg="health: the box is well" before=starting
level=WARN msg="health: the box is degraded" before=well
level=WARN msg="health: 10 % free" fact=disk severity=degraded
level=ERROR msg="health: the box is failing" before=degraded
level=ERROR msg="health: full" fact=disk severity=failing
level=INFO msg="health: the box is well" before=failing
level=INFO msg="health: over" fact=disk
`
	if out.String() != want {
		t.Errorf("log:\n%swant:\n%s", out.String(), want)
	}
}

func TestChanges(t *testing.T) {
	h := New(newClock().now, "1", quiet())
	changes, cancel := h.Changes()
	token := func() bool {
		select {
		case <-changes:
			return true
		default:
			return false
		}
	}
	h.Set(Fact{"a", Degraded, "a"})
	h.Set(Fact{"b", Degraded, "b"})
	if !token() || token() {
		t.Error("two changes must leave one token")
	}
	h.Set(Fact{"b", Degraded, "b"})
	h.Clear("c")
	if token() {
		t.Error("a token without a change")
	}
	h.Set(Fact{"b", Degraded, "another text"})
	if !token() {
		t.Error("no token for a new text")
	}
	cancel()
	h.Ready()
	if token() {
		t.Error("a token after the subscription's end")
	}
}

func TestManyFeaturesAtOnce(t *testing.T) {
	h := New(time.Now, "1", quiet())
	h.Ready()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			changes, cancel := h.Changes()
			defer cancel()
			for range 200 {
				h.Set(Fact{fmt.Sprint(i), Failing, "x"})
				<-changes
				_ = h.Snapshot().Text()
				h.Clear(fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(); s.State != Well || len(s.Reasons) != 0 {
		t.Errorf("in the end %+v", s)
	}
}
