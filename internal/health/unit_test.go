package health

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unitValues returns the values that image/pibox.service gives a key, lines joined as systemd does.
func unitValues(t *testing.T, key string) []string {
	t.Helper()
	b, err := os.ReadFile("../../image/pibox.service")
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for line := range strings.Lines(strings.ReplaceAll(string(b), "\\\n", " ")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			values = append(values, v)
		}
	}
	return values
}

func TestUnitAgreesWithTheDaemon(t *testing.T) {
	for key, want := range map[string]string{
		"Type": "notify", "WatchdogSec": "120", "Restart": "always", "StartLimitIntervalSec": "0",
		"ReadWritePaths": "-/sys/class/leds/ACT -/sys/class/leds/PWR -/sys/class/leds/led0 -/sys/class/leds/led1\n-/boot/firmware -/media/usb",
	} {
		if got := strings.Join(unitValues(t, key), "\n"); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
}

// What the unit does with the lights of a daemon that was killed, run by the real shell.
func TestUnitHandsOverTheLightsOfAKilledDaemon(t *testing.T) {
	values := unitValues(t, "ExecStopPost")
	if len(values) != 1 {
		t.Fatalf("ExecStopPost: %q", values)
	}
	script, ok := strings.CutPrefix(values[0], "-/bin/sh -c '")
	script, closed := strings.CutSuffix(script, "'")
	if !ok || !closed || strings.Contains(script, "'") || strings.Contains(script, "%") {
		t.Fatalf("ExecStopPost=%s", values[0])
	}
	dir := ledFolder(t.TempDir())
	dir.add(t, "ACT", "[none] mmc0 timer heartbeat", "0", "255")
	dir.add(t, "led1", "[none]", "0", "255")
	trigger := filepath.Join(string(dir), "led1", "trigger")
	if err := os.Remove(trigger); err != nil {
		t.Fatal(err)
	}
	// A kernel that knows none of the triggers refuses to have them written; a folder refuses too, whoever writes.
	if err := os.Mkdir(trigger, 0o755); err != nil {
		t.Fatal(err)
	}
	script = strings.ReplaceAll(strings.ReplaceAll(script, "$$", "$"), "/sys/class/leds", string(dir))
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("error %v, output:\n%s", err, out)
	}
	if got := dir.read("ACT", "trigger"); got != "heartbeat" {
		t.Errorf("ACT: trigger %q, want heartbeat", got)
	}
	if got := dir.read("ACT", "brightness"); got != "0" {
		t.Errorf("ACT: brightness %q was written although the kernel has it", got)
	}
	if got := dir.read("led1", "brightness"); got != "255" {
		t.Errorf("led1: brightness %q, want 255", got)
	}
}
