package health

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/gpio/gpioreg"
)

const debianTriggers = "none kbd-scrolllock [mmc0] timer heartbeat default-on\n"

// ledFolder stands in for /sys/class/leds.
type ledFolder string

// add makes a light as the kernel shows it, a link to the device's own folder.
func (dir ledFolder) add(t *testing.T, name, triggers, brightness, full string) {
	t.Helper()
	device := t.TempDir()
	for file, content := range map[string]string{"trigger": triggers, "brightness": brightness, "max_brightness": full} {
		if content == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(device, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(device, filepath.Join(string(dir), name)); err != nil {
		t.Fatal(err)
	}
}

func (dir ledFolder) read(name, file string) string {
	b, err := os.ReadFile(filepath.Join(string(dir), name, file))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// watch draws a light's brightness for d, as docs/leds.md does: a character for each tenth of a second.
func (dir ledFolder) watch(name, full string, d time.Duration) string {
	var b strings.Builder
	for range d / (100 * time.Millisecond) {
		pass(50 * time.Millisecond) // look in the middle of each tenth
		switch dir.read(name, "brightness") {
		case full:
			b.WriteRune('█')
		case "0":
			b.WriteRune('·')
		default:
			b.WriteString("?" + dir.read(name, "brightness") + "?")
		}
		pass(50 * time.Millisecond)
	}
	return b.String()
}

// picture draws a pattern for one round.
func picture(steps []time.Duration) string {
	var b strings.Builder
	for i, step := range steps {
		b.WriteString(strings.Repeat([]string{"█", "·"}[i%2], int(step/(100*time.Millisecond))))
	}
	return b.String()
}

func logTo(out *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(out, nil)) }

// enter brings a new Health into a state.
func enter(h *Health, s State) {
	if s != Starting {
		h.Ready()
	}
	switch s {
	case Degraded, Moving, Failing:
		h.Set(Fact{"x", s, "x"})
	case Stopping:
		h.Stopping()
	}
}

func TestLEDsShowEveryState(t *testing.T) {
	for _, p := range Patterns() {
		t.Run(string(p.State), func(t *testing.T) {
			dir := ledFolder(t.TempDir())
			dir.add(t, "ACT", debianTriggers, "0\n", "255\n")
			dir.add(t, "PWR", debianTriggers, "1\n", "1\n")
			dir.add(t, "input3::capslock", debianTriggers, "0\n", "1\n")
			var out bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				h := New(time.Now, "1", quiet())
				enter(h, p.State)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					NewLEDs(h, LEDConfig{Dir: string(dir)}, logTo(&out)).Run(ctx)
					close(done)
				}()
				synctest.Wait()
				for led, full := range map[string]string{"ACT": "255", "PWR": "1"} {
					if got := dir.read(led, "trigger"); got != "none" {
						t.Errorf("%s: trigger %q, want none", led, got)
					}
					if led == "ACT" {
						want := picture(p.Steps) + picture(p.Steps)
						var round time.Duration
						for _, s := range p.Steps {
							round += s
						}
						if got := dir.watch(led, full, 2*round); got != want {
							t.Errorf("%s shows\n%s, want\n%s", led, got, want)
						}
					}
				}
				cancel()
				<-done
				for _, led := range []string{"ACT", "PWR"} {
					if got := dir.read(led, "trigger"); got != "heartbeat" {
						t.Errorf("%s at the end: trigger %q, want heartbeat", led, got)
					}
				}
			})
			if got := dir.read("input3::capslock", "trigger"); got != strings.TrimSpace(debianTriggers) {
				t.Errorf("a light that is not ours has trigger %q", got)
			}
			if out.Len() > 0 {
				t.Errorf("log:\n%s", out.String())
			}
		})
	}
}

func TestLEDsFollowAChangeAtOnceAndKeepTheRhythm(t *testing.T) {
	dir := ledFolder(t.TempDir())
	dir.add(t, "led0", debianTriggers, "0", "255")
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { NewLEDs(h, LEDConfig{Dir: string(dir)}, quiet()).Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		h.Ready()
		got := dir.watch("led0", "255", time.Second)
		h.Set(Fact{"a", Failing, "a"})
		got += dir.watch("led0", "255", 500*time.Millisecond)
		h.Set(Fact{"b", Degraded, "b"})
		got += dir.watch("led0", "255", 500*time.Millisecond)
		h.Clear("a")
		got += dir.watch("led0", "255", time.Second)
		h.Set(Fact{"c", Degraded, "c"}) // another reason, the same state
		got += dir.watch("led0", "255", 2800*time.Millisecond)
		if want := "██████████" + "█·█·█" + "·█·█·" + picture(stepsOf(Degraded)); got != want {
			t.Errorf("the light shows\n%s, want\n%s", got, want)
		}
	})
}

func TestLEDsAreTakenBackWithTheNextState(t *testing.T) {
	dir := ledFolder(t.TempDir())
	dir.add(t, "ACT", debianTriggers, "0", "255")
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { NewLEDs(h, LEDConfig{Dir: string(dir)}, quiet()).Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		if err := os.WriteFile(filepath.Join(string(dir), "ACT", "trigger"), []byte("mmc0"), 0o644); err != nil {
			t.Fatal(err)
		}
		h.Ready()
		synctest.Wait()
		if got := dir.read("ACT", "trigger"); got != "none" {
			t.Errorf("trigger %q after a change of state, want none", got)
		}
	})
}

// What a light shows when pibox ended, by what the kernel offers.
func TestLEDsHandOver(t *testing.T) {
	for _, tc := range []struct{ name, triggers, wantTrigger, wantBrightness string }{
		{"all", debianTriggers, "heartbeat", "0"},
		{"no heartbeat", "[none] timer default-on", "timer", "0"},
		{"only default-on", "none [default-on]", "default-on", "0"},
		{"nothing of use", "[none] mmc0", "none", "255"},
		{"a kernel without triggers", "", "open trigger", "255"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := ledFolder(t.TempDir())
			dir.add(t, "ACT", tc.triggers, "0", "255")
			synctest.Test(t, func(t *testing.T) {
				h := New(time.Now, "1", quiet())
				h.Stopping() // dark most of the time
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { NewLEDs(h, LEDConfig{Dir: string(dir)}, quiet()).Run(ctx); close(done) }()
				pass(500 * time.Millisecond)
				if got := dir.read("ACT", "brightness"); got != "0" {
					t.Fatalf("brightness %q in the dark part", got)
				}
				cancel()
				<-done
			})
			trigger := dir.read("ACT", "trigger")
			if tc.triggers == "" {
				if !strings.Contains(trigger, "no such file") {
					t.Errorf("a trigger file was made: %q", trigger)
				}
			} else if trigger != tc.wantTrigger {
				t.Errorf("trigger %q, want %q", trigger, tc.wantTrigger)
			}
			if got := dir.read("ACT", "brightness"); got != tc.wantBrightness {
				t.Errorf("brightness %q, want %q", got, tc.wantBrightness)
			}
		})
	}
}

// runFor runs LEDs through start, a failure and the end, on one thread, and returns its log.
func runFor(t *testing.T, cfg LEDConfig, before func()) string {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // and ends with it
			before()
			NewLEDs(h, cfg, logTo(&out)).Run(ctx)
			close(done)
		}()
		pass(10 * time.Second)
		h.Ready()
		pass(10 * time.Second)
		h.Set(Fact{"x", Failing, "x"})
		pass(10 * time.Second)
		cancel()
		<-done
	})
	return out.String()
}

func TestLEDsThatCanNotBeUsed(t *testing.T) {
	empty := t.TempDir()
	broken := ledFolder(t.TempDir())
	broken.add(t, "ACT", debianTriggers, "", "255")
	if err := os.Mkdir(filepath.Join(string(broken), "ACT", "brightness"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		cfg   LEDConfig
		lines []string
	}{
		{"no folder", LEDConfig{Dir: filepath.Join(empty, "leds")}, []string{"no light to show"}},
		{"no light", LEDConfig{Dir: empty}, []string{"no light to show"}},
		{"not wanted", LEDConfig{Dir: string(broken), Names: []string{}}, []string{"no light to show"}},
		{"not there, but wanted", LEDConfig{Dir: empty, Names: []string{"ACT"}}, []string{"light=ACT", "no light to show"}},
		{"a path as a name", LEDConfig{Dir: empty, Names: []string{"../../etc"}}, []string{"is not the name of a light", "no light to show"}},
		{"not writable at all", LEDConfig{Dir: string(broken)}, []string{"light=ACT", "no light to show"}},
		{"no such pin", LEDConfig{Dir: empty, Pin: "NOPIN7"}, []string{"light=NOPIN7", "no light to show"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := runFor(t, tc.cfg, func() {})
			if strings.Count(got, "\n") != len(tc.lines) {
				t.Errorf("want %d lines in the log:\n%s", len(tc.lines), got)
			}
			for _, line := range tc.lines {
				if !strings.Contains(got, line) {
					t.Errorf("no %q in the log:\n%s", line, got)
				}
			}
		})
	}
	if got := broken.read("ACT", "trigger"); got != strings.TrimSpace(debianTriggers) {
		t.Errorf("a light that can not be lit was taken from the kernel: trigger %q", got)
	}
}

func TestLEDsWithoutPermission(t *testing.T) {
	dir := ledFolder(t.TempDir())
	dir.add(t, "ACT", debianTriggers, "0", "255")
	if err := os.Chmod(filepath.Dir(string(dir)), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"trigger", "brightness"} {
		if err := os.Chmod(filepath.Join(string(dir), "ACT", file), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	got := runFor(t, LEDConfig{Dir: string(dir)}, func() {
		if os.Getuid() == 0 {
			// Root may write everything: this thread becomes nobody to the file system, and dies with the goroutine.
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
				t.Error(errno)
			}
		}
	})
	if strings.Count(got, "permission denied") != 1 || strings.Count(got, "no light to show") != 1 || strings.Count(got, "\n") != 2 {
		t.Errorf("log:\n%s", got)
	}
	if trigger := dir.read("ACT", "trigger"); trigger != strings.TrimSpace(debianTriggers) {
		t.Errorf("trigger %q", trigger)
	}
}

func TestLEDsThatGoAway(t *testing.T) {
	dir := ledFolder(t.TempDir())
	dir.add(t, "ACT", debianTriggers, "0", "255")
	dir.add(t, "PWR", debianTriggers, "0", "255")
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		h := New(time.Now, "1", quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { NewLEDs(h, LEDConfig{Dir: string(dir)}, logTo(&out)).Run(ctx); close(done) }()
		pass(time.Second)
		if err := os.Remove(filepath.Join(string(dir), "ACT", "brightness")); err != nil {
			t.Fatal(err)
		}
		h.Ready()
		if got, want := dir.watch("PWR", "255", 3*time.Second), picture(stepsOf(Well)); got != want {
			t.Errorf("the other light shows\n%s, want\n%s", got, want)
		}
		cancel()
		<-done
		if got := dir.read("ACT", "brightness"); !strings.Contains(got, "no such file") {
			t.Errorf("a file was made in place of the light: %q", got)
		}
	})
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "light=ACT") {
		t.Errorf("log:\n%s", got)
	}
}

// testPin is a pin known to periph; it does not do what pibox does not ask for.
type testPin struct {
	gpio.PinIO
	label string
	level atomic.Bool
}

func (p *testPin) Name() string   { return p.label }
func (p *testPin) String() string { return p.label }
func (p *testPin) Number() int    { return -1 }

func (p *testPin) Out(l gpio.Level) error {
	p.level.Store(bool(l))
	return nil
}

func TestPinLED(t *testing.T) {
	for _, tc := range []struct {
		name      string
		activeLow bool
		lit       gpio.Level
	}{{"TESTPIN_HIGH", false, gpio.High}, {"TESTPIN_LOW", true, gpio.Low}} {
		t.Run(tc.name, func(t *testing.T) {
			pin := &testPin{label: tc.name}
			if err := gpioreg.Register(pin); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = gpioreg.Unregister(tc.name) })
			var out bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				h := New(time.Now, "1", quiet())
				enter(h, Failing)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					NewLEDs(h, LEDConfig{Names: []string{}, Pin: tc.name, PinActiveLow: tc.activeLow}, logTo(&out)).Run(ctx)
					close(done)
				}()
				pass(50 * time.Millisecond)
				for i := range 10 {
					if got := pin.level.Load() == bool(tc.lit); got != (i%2 == 0) {
						t.Errorf("tenth %d: lit %v", i, got)
					}
					pass(100 * time.Millisecond)
				}
				pass(100 * time.Millisecond) // into a dark tenth
				cancel()
				<-done
				if pin.level.Load() != bool(tc.lit) {
					t.Error("dark at the end")
				}
			})
			if out.Len() > 0 {
				t.Errorf("log:\n%s", out.String())
			}
		})
	}
}

func TestPatternsCanBeToldApart(t *testing.T) {
	type traits struct {
		flashes  int           // in one round
		lit      time.Duration // in one round
		round    time.Duration
		shortest time.Duration
		limping  bool // long and short flashes
	}
	seen := map[State]traits{}
	for _, p := range Patterns() {
		if len(p.Steps) == 0 || len(p.Steps)%2 != 0 {
			t.Fatalf("%s: %d steps", p.State, len(p.Steps))
		}
		tr := traits{flashes: len(p.Steps) / 2, shortest: time.Hour}
		for i, s := range p.Steps {
			tr.round += s
			tr.shortest = min(tr.shortest, s)
			if i%2 == 0 {
				tr.lit += s
				tr.limping = tr.limping || s >= 3*p.Steps[0] || 3*s <= p.Steps[0]
			} else if s > time.Second {
				t.Errorf("%s: dark for %v, as if there were no power", p.State, s)
			}
		}
		if tr.shortest < 100*time.Millisecond || tr.round > 4*time.Second {
			t.Errorf("%s: a step of %v, a round of %v: too short or too long to see", p.State, tr.shortest, tr.round)
		}
		if works := p.State == Well || p.State == Degraded || p.State == Moving; works != (tr.lit*10 > tr.round*6) {
			t.Errorf("%s: lit for %v of %v, against the rule that mostly lit means that it works", p.State, tr.lit, tr.round)
		}
		for other, o := range seen {
			rhythm := func(t traits) time.Duration { return t.round / time.Duration(t.flashes) }
			differs := tr.limping != o.limping ||
				max(rhythm(tr), rhythm(o)) >= 2*min(rhythm(tr), rhythm(o)) || // twice as fast
				tr.lit*10/tr.round >= o.lit*10/o.round+3 || o.lit*10/o.round >= tr.lit*10/tr.round+3 || // clearly brighter
				tr.flashes >= o.flashes+2 || o.flashes >= tr.flashes+2
			if !differs {
				t.Errorf("%s and %s look too much alike", p.State, other)
			}
		}
		seen[p.State] = tr
	}
	want := []State{Starting, Well, Degraded, Moving, Failing, Stopping}
	var got []State
	for _, p := range Patterns() {
		got = append(got, p.State)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("patterns of %v, want %v", got, want)
	}
}

func TestDocsShowThePatterns(t *testing.T) {
	b, err := os.ReadFile("../../docs/leds.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "| --- | --- | --- | --- |\n")
	table, _, found := strings.Cut(table, "<!-- /patterns -->")
	if !found {
		t.Fatal("docs/leds.md has no table between its marks")
	}
	var want strings.Builder
	for _, p := range Patterns() {
		want.WriteString("| " + strings.Join([]string{string(p.State), p.Looks, p.Means, "`" + picture(p.Steps) + "`"}, " | ") + " |\n")
	}
	if table != want.String() {
		t.Errorf("docs/leds.md has\n%swant\n%s", table, want.String())
	}
}
