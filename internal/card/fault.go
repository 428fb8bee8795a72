package card

import (
	"context"
	"path/filepath"

	"pibox/internal/health"
)

// Fault shows on the lights, on the screen and on the card that the daemon can not run, until ctx ends: then the daemon, or the next start, takes
// the lights over.
func (c *Card) Fault(ctx context.Context, lights health.LEDConfig) error {
	var facts []Fact
	_ = readJSON(filepath.Join(c.Run, bootFile), &facts)
	if worst(facts) != Failing {
		facts = append(facts, Fact{"start", Failing, "the system on the card did not start as it should"})
	}
	h := health.New(c.Now, "", c.Log)
	for _, f := range facts {
		if f.Severity == Failing {
			h.Set(health.Fact{Name: "card/" + f.Name, Severity: health.Failing, Text: f.Text})
		}
	}
	err := c.Status()
	health.NewLEDs(h, lights, c.Log).Run(ctx)
	<-ctx.Done()
	return err
}
