package update

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// trialOf plays a daemon: from each moment on it answers as given, until the next.
type answer struct {
	after time.Duration
	Health
	err error
}

func TestTrial(t *testing.T) {
	serves := func(after time.Duration, pid int) answer {
		return answer{after: after, Health: Health{Serves: true, PID: pid}}
	}
	starting := answer{Health: Health{PID: 1, Words: []string{"starting"}}}
	silent := errors.New("nobody listens")
	for name, c := range map[string]struct {
		answers   []answer
		refuses   bool // the card takes no confirmation
		confirmed bool
		at        time.Duration // when it is decided, but for askEvery
		why       string
	}{
		"serves at once":           {answers: []answer{serves(0, 1)}, confirmed: true, at: HealthyFor},
		"serves after a while":     {answers: []answer{{err: silent}, {after: 20 * time.Second, Health: starting.Health}, serves(time.Minute, 1)}, confirmed: true, at: time.Minute + HealthyFor},
		"restarts once":            {answers: []answer{serves(0, 1), serves(time.Minute, 2)}, confirmed: true, at: time.Minute + HealthyFor},
		"migrated, and waits":      {answers: []answer{starting, {after: 30 * time.Second, Health: Health{Ready: true, PID: 1}}}, confirmed: true, at: 30 * time.Second},
		"does not answer":          {answers: []answer{{err: silent}}, at: TrialTime, why: "nobody listens"},
		"fails":                    {answers: []answer{serves(0, 1), {after: time.Minute, Health: Health{Words: []string{"failing", "the disk is full"}}}}, at: TrialTime, why: "failing; the disk is full"},
		"never serves long enough": {answers: restless(), at: TrialTime, why: "in one go"},
		"can not be confirmed":     {answers: []answer{serves(0, 1)}, refuses: true, at: TrialTime, why: "could not be confirmed: the card"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, why, confirmed := time.Now(), "", false
				tr := Trial{
					Log: slog.New(slog.DiscardHandler),
					Ask: func(context.Context) (Health, error) {
						now := c.answers[0]
						for _, a := range c.answers {
							if time.Since(began) >= a.after {
								now = a
							}
						}
						return now.Health, now.err
					},
					Confirm: func() error {
						if c.refuses {
							return errors.New("the card takes no writes")
						}
						confirmed = true
						return nil
					},
					RollBack: func(text string) error { why = text; return nil },
				}
				got, err := tr.Run(t.Context())
				if err != nil || got != c.confirmed || confirmed != c.confirmed || !strings.Contains(why, c.why) || (why == "") != c.confirmed {
					t.Errorf("confirmed %t (%t), why %q, %v", got, confirmed, why, err)
				}
				if took := time.Since(began); took < c.at || took > c.at+2*askEvery {
					t.Errorf("decided after %v, not %v", took, c.at)
				}
			})
		})
	}
}

// restless is a daemon that ends after each minute.
func restless() (list []answer) {
	for n := range 20 {
		list = append(list, answer{after: time.Duration(n) * time.Minute, Health: Health{Serves: true, PID: n}})
	}
	return list
}

// A stop of the watch, as when a person restarts the box, decides nothing.
func TestTrialThatIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tr := Trial{
			Log: slog.New(slog.DiscardHandler), Ask: func(context.Context) (Health, error) { return Health{}, nil },
			Confirm:  func() error { t.Error("confirmed"); return nil },
			RollBack: func(string) error { t.Error("taken back"); return nil },
		}
		if confirmed, err := tr.Run(ctx); confirmed || err == nil {
			t.Errorf("%t, %v", confirmed, err)
		}
	})
}
