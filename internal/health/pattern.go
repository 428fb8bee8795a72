package health

import "time"

// Pattern is what a light does in one state. docs/leds.md shows them all.
type Pattern struct {
	State State
	// Steps are the times the light is lit, dark, lit, dark, … before it begins anew; an even number of them.
	Steps []time.Duration
	// Looks tells the pattern in words, Means what it says about the box.
	Looks, Means string
}

// Patterns returns the pattern of every state. Their rule: mostly lit means that the chat works; even or hasty
// blinking, or mostly dark, that it does not (yet). None is steadily lit or dark, which a dead computer may be, and
// none is two beats and a pause, the kernel's heartbeat, which means that pibox does not run (see handOver).
func Patterns() []Pattern {
	ms := func(steps ...time.Duration) []time.Duration {
		for i := range steps {
			steps[i] *= time.Millisecond
		}
		return steps
	}
	return []Pattern{
		{
			Starting, ms(500, 500), "blinks evenly, once a second",
			"starting; not yet reachable",
		},
		{
			Well, ms(2900, 100), "lit, with one short wink every 3 seconds",
			"all is well",
		},
		{
			Degraded, ms(1700, 300, 300, 300, 300, 300, 300, 300), "lit, with four slow winks in a row",
			"works, but something needs attention: `pibox status` tells what",
		},
		{
			Moving, ms(1200, 300, 300, 300), "long, short, long, short",
			"an account is moving: works, leave the plug in",
		},
		{
			Failing, ms(100, 100), "flickers hastily",
			"does not work: `pibox status` tells why",
		},
		{
			Stopping, ms(100, 900), "dark, with one short flash a second",
			"stopping; over in a few seconds",
		},
	}
}

func stepsOf(s State) []time.Duration {
	for _, p := range Patterns() {
		if p.State == s {
			return p.Steps
		}
	}
	panic("health: no pattern for state " + string(s))
}
