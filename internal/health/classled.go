package health

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// classLED is a light of the kernel's LED class (Documentation/ABI/testing/sysfs-class-led).
//
// periph's sysfs.LED is not used: its folder is fixed, it never touches the trigger, without which a brightness does not
// last, and it opens a light read-only where it may not write, so that the first error comes too late.
type classLED struct {
	dir, label string
	full       string   // the largest brightness, in the kernel's decimal
	triggers   []string // what the kernel offers; none on a kernel without triggers
}

func newClassLED(dir, name string) (*classLED, error) {
	led := &classLED{dir: filepath.Join(dir, name), label: name, full: "255"}
	if strings.ContainsRune(name, '/') || name == "." || name == ".." || name == "" {
		return led, fmt.Errorf("%q is not the name of a light", name)
	}
	if _, err := os.Stat(led.file("brightness")); err != nil {
		return led, err
	}
	if b, err := os.ReadFile(led.file("max_brightness")); err == nil {
		led.full = strings.TrimSpace(string(b))
	}
	b, err := os.ReadFile(led.file("trigger"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return led, err
	}
	led.triggers = strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(string(b)))
	return led, nil
}

func (led *classLED) name() string { return led.label }

// claim takes the light from the kernel by the trigger "none". That turns it dark, so it is done only if the light can
// be lit again.
func (led *classLED) claim() error {
	f, err := os.OpenFile(led.file("brightness"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if len(led.triggers) == 0 {
		return nil
	}
	return led.write("trigger", "none")
}

func (led *classLED) set(on bool) error {
	if on {
		return led.write("brightness", led.full)
	}
	return led.write("brightness", "0")
}

// handOver leaves the light to the kernel's heartbeat: the computer runs, pibox does not. The heartbeat needs no
// settings, and it ends when the kernel shuts down or panics. Where it is missing the kernel blinks or lights it.
// image/pibox.service does the same when the daemon was killed.
func (led *classLED) handOver() error {
	for _, trigger := range []string{"heartbeat", "timer", "default-on"} {
		if slices.Contains(led.triggers, trigger) && led.write("trigger", trigger) == nil {
			return nil
		}
	}
	return led.set(true)
}

func (led *classLED) file(name string) string { return filepath.Join(led.dir, name) }

func (led *classLED) write(name, value string) error {
	f, err := os.OpenFile(led.file(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
