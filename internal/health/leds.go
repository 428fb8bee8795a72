package health

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

// LEDConfig tells which lights show the state.
type LEDConfig struct {
	// Dir is the kernel's LED class folder; empty means /sys/class/leds.
	Dir string
	// Names are the lights under Dir to use, all with the same pattern. Nil means those of a Raspberry Pi that exist: ACT
	// and PWR, which older kernels call led0 and led1. Empty and not nil means none.
	Names []string
	// Pin is a GPIO pin with a light of its own, by its name for periph and the kernel, such as GPIO17; empty means none.
	Pin string
	// PinActiveLow tells that the pin's light is lit while the pin is low.
	PinActiveLow bool
}

// LEDs shows the state on the board's lights.
type LEDs struct {
	h    *Health
	cfg  LEDConfig
	log  *slog.Logger
	said map[string]bool // lights whose trouble is in the log already
}

// light is one light, on the board or on a pin.
type light interface {
	name() string
	claim() error      // takes the light over from the kernel; it may be called again to take it back
	set(on bool) error // lights it or turns it dark
	handOver() error   // leaves it lit, or in the kernel's hands, for the time when pibox does not run
}

// NewLEDs returns a sink that Run puts to work.
func NewLEDs(h *Health, cfg LEDConfig, log *slog.Logger) *LEDs {
	return &LEDs{h: h, cfg: cfg, log: log, said: map[string]bool{}}
}

// Run shows the state until ctx ends, then hands the lights over to the kernel, which shows that pibox does not run.
// Without a usable light it says so once and returns. Trouble with one light is said once and keeps nothing else from working.
func (l *LEDs) Run(ctx context.Context) {
	lights := l.find()
	if len(lights) == 0 {
		l.log.Info("health: no light to show the state on (normal where there is no LED)")
		return
	}
	defer func() {
		for _, light := range lights {
			l.say(light.name(), light.handOver())
		}
	}()
	changes, cancel := l.h.Changes()
	defer cancel()
	var state State
	var steps []time.Duration
	step := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			if l.h.State() == state {
				continue // only the reasons changed: the rhythm goes on
			}
		case <-timer.C:
		}
		if s := l.h.State(); s != state {
			state, steps, step = s, stepsOf(s), 0
			l.each(lights, light.claim)
		}
		l.each(lights, func(li light) error { return li.set(step%2 == 0) })
		timer.Reset(steps[step])
		step = (step + 1) % len(steps)
	}
}

func (l *LEDs) each(lights []light, f func(light) error) {
	for _, li := range lights {
		l.say(li.name(), f(li))
	}
}

// find returns the lights that exist and could be claimed.
func (l *LEDs) find() []light {
	dir, names, chosen := l.cfg.Dir, l.cfg.Names, true
	if dir == "" {
		dir = "/sys/class/leds"
	}
	if names == nil {
		names, chosen = []string{"ACT", "PWR", "led0", "led1"}, false
	}
	var lights []light
	use := func(li light, err error) {
		if err == nil {
			err = li.claim()
		}
		if err == nil {
			lights = append(lights, li)
		}
		l.say(li.name(), err)
	}
	for _, name := range names {
		li, err := newClassLED(dir, name)
		if errors.Is(err, os.ErrNotExist) && !chosen {
			continue
		}
		use(li, err)
	}
	if l.cfg.Pin != "" {
		li, err := newPinLED(l.cfg.Pin, l.cfg.PinActiveLow)
		use(li, err)
	}
	return lights
}

func (l *LEDs) say(name string, err error) {
	if err == nil || l.said[name] {
		return
	}
	l.said[name] = true
	l.log.Warn("health: a light can not be used (said once)", "light", name, "error", err)
}
