package update

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Patience of a trial.
const (
	// HealthyFor is how long the daemon has to serve in one go before its system is confirmed.
	HealthyFor = 2 * time.Minute
	// TrialTime is how long it has for that, from when it is first asked.
	TrialTime = 10 * time.Minute
	askEvery  = 2 * time.Second
	askTime   = 20 * time.Second
)

// Health is what the daemon says of itself.
type Health struct {
	// Serves tells that it serves; Ready that it could, and waits for the confirmation, because its database was migrated.
	Serves bool
	Ready  bool
	// PID is its process; another one begins anew.
	PID int
	// Words tell a person why it does not serve.
	Words []string
}

// Trial is the watch over a system that is being tried.
type Trial struct {
	// Ask asks the daemon. An error means that it does not answer.
	Ask func(context.Context) (Health, error)
	// Confirm and RollBack are Place's.
	Confirm  func() error
	RollBack func(text string) error
	Log      *slog.Logger
}

// Run waits until the daemon shows that the new system works, and confirms it; or takes it back when it does not in time. It tells whether it
// was confirmed: if not, and there is no error, the box is to be restarted. Where ctx ends it leaves everything as it is.
func (t Trial) Run(ctx context.Context) (confirmed bool, err error) {
	over := time.NewTimer(TrialTime)
	defer over.Stop()
	why := "pibox did not answer"
	var since time.Time
	pid := 0
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		h, err := t.ask(ctx)
		switch {
		case err != nil:
			since, why = time.Time{}, "pibox did not answer: "+err.Error()
		case h.Ready:
			t.Log.Info("the new system can serve, and waits for its confirmation")
			if err = t.Confirm(); err == nil {
				return true, nil
			}
			why = "it could not be confirmed: " + err.Error()
		case !h.Serves:
			since, why = time.Time{}, "pibox did not serve: "+strings.Join(h.Words, "; ")
		case since.IsZero() || h.PID != pid:
			since, pid, why = time.Now(), h.PID, fmt.Sprintf("pibox did not serve for %s in one go", HealthyFor)
		case time.Since(since) >= HealthyFor:
			t.Log.Info("the new system works")
			if err = t.Confirm(); err == nil {
				return true, nil
			}
			why = "it could not be confirmed: " + err.Error()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-over.C:
			t.Log.Error("the new system is taken back", "why", why)
			return false, t.RollBack(why)
		}
	}
}

func (t Trial) ask(ctx context.Context) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return t.Ask(ctx)
}
