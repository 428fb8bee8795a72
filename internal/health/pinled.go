package health

import (
	"errors"
	"fmt"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"

	// Only periph's driver for the kernel's GPIO devices: the drivers of host.Init also map the chips' registers, which
	// the sandbox forbids and a Pi 5 does not have, and cost 0.5 MB more.
	_ "periph.io/x/host/v3/gpioioctl"
)

// pinLED is a light on a GPIO pin.
type pinLED struct {
	label     string
	activeLow bool
	pin       gpio.PinOut
}

// newPinLED looks for the pin; periph is initialised here and nowhere else, because few boxes have such a light.
func newPinLED(name string, activeLow bool) (*pinLED, error) {
	led := &pinLED{label: name, activeLow: activeLow}
	state, err := driverreg.Init()
	if err != nil {
		return led, err
	}
	pin := gpioreg.ByName(name)
	if pin == nil {
		err = fmt.Errorf("no GPIO pin is named %s; `gpioinfo` lists them, and /dev/gpiochip* must be writable", name)
		for _, f := range append(state.Failed, state.Skipped...) {
			err = errors.Join(err, errors.New(f.String()))
		}
		return led, err
	}
	led.pin = pin
	return led, nil
}

func (led *pinLED) name() string { return led.label }

func (led *pinLED) claim() error { return led.set(true) }

func (led *pinLED) set(on bool) error { return led.pin.Out(gpio.Level(on != led.activeLow)) }

// handOver leaves the light lit; whether it stays so without us is up to the kernel's driver of the pin.
func (led *pinLED) handOver() error { return led.set(true) }
