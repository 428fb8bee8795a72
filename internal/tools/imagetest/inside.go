package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// inside looks at the running box by the shell.
type inside struct {
	ctx context.Context
	sh  *shell
}

// is wants a command to print exactly that.
func (in inside) is(command, want string) error {
	got, err := in.sh.run(in.ctx, command)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%q prints %q, want %q", command, got, want)
	}
	return nil
}

func (in inside) noFailedUnit() error {
	return in.is("systemctl --failed --no-legend --plain", "")
}

// listening asks the kernel, since the image has no tool for it.
func (in inside) listening() error {
	out, err := in.sh.run(in.ctx, "for t in tcp tcp6 udp udp6; do sed \"s/^/$t /\" /proc/net/$t; done")
	if err != nil {
		return err
	}
	return allowed(listeners(out))
}

// services names who runs, so that a new one is noticed.
func (in inside) services() error {
	return in.is("systemctl list-units --type=service --state=running --no-legend --plain | cut -d' ' -f1 | sort | tr '\\n' ' '",
		"dbus.service pibox.service systemd-journald.service systemd-logind.service systemd-networkd.service systemd-resolved.service systemd-timesyncd.service systemd-udevd.service t.service")
}

func (in inside) readOnly() error {
	out, err := in.sh.run(in.ctx, "cut -d' ' -f2-4 /proc/mounts")
	if err != nil {
		return err
	}
	mounts := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			mounts[f[0]] = f[1] + " " + f[2]
		}
	}
	for where, want := range map[string]string{"/": "ext4 ro", "/boot/pibox": "vfat ro", "/data": "ext4 rw", "/var": "tmpfs rw", "/var/lib/pibox": "ext4 rw", "/var/lib/systemd/timesync": "ext4 rw"} {
		if !strings.HasPrefix(mounts[where], want) {
			return fmt.Errorf("%s is %q, want %s", where, mounts[where], want)
		}
	}
	return in.is("touch /etc/x /usr/x /boot/pibox/x 2>&1 | grep -c Read-only", "3")
}

// grown allows for what a file system needs for itself.
func (in inside) grown() error {
	out, err := in.sh.run(in.ctx, "cd /sys/class/block; stat -f -c '%b %S' /data; cat $(basename $(readlink -f /dev/pibox/card))/size; cd $(basename $(readlink -f /dev/pibox/data)); cat start size")
	if err != nil {
		return err
	}
	var blocks, size, sectors, start, length int64
	if _, err := fmt.Sscan(out, &blocks, &size, &sectors, &start, &length); err != nil {
		return fmt.Errorf("%q: %w", out, err)
	}
	if start+length != sectors {
		return fmt.Errorf("the partition ends at %d of %d", start+length, sectors)
	}
	if got, least := blocks*size, length*512/10*9; got < least {
		return fmt.Errorf("the file system has %d bytes, want %d at least", got, least)
	}
	return nil
}

func (in inside) nobody() error {
	return errors.Join(
		in.is("awk -F: '$2 !~ /^[*!]/' /etc/shadow", ""),
		in.is("cat /proc/[0-9]*/comm | grep -c -x -e agetty -e login -e sshd || true", "0"),
		in.is("systemctl is-enabled debug-shell.service getty@tty1.service serial-getty@ttyAMA0.service | sort -u | tr '\\n' ' '", "disabled masked"))
}

func (in inside) clock() error {
	return in.is("[ $(date +%s) -ge $(stat -c %Y /usr/lib/clock-epoch) ] && [ $(stat -c %Y /usr/lib/clock-epoch) -gt 1700000000 ] && echo later", "later")
}

func (in inside) journal() error {
	return errors.Join(in.is("ls /var/log/journal 2>/dev/null | wc -l", "0"), in.is("ls /run/log/journal | wc -l", "1"))
}

// memory is what free calls used: all but free, buffers and what the kernel could give back.
func (in inside) memory() error {
	out, err := in.sh.run(in.ctx, "awk '/^MemTotal|^MemAvailable/ { print $2 }' /proc/meminfo")
	if err != nil {
		return err
	}
	var total, available int
	if _, err := fmt.Sscan(out, &total, &available); err != nil {
		return err
	}
	used := (total - available) / 1024
	processes, err := in.sh.run(in.ctx, "cat /proc/[0-9]*/statm | grep -c -v '^0 '")
	if err != nil {
		return err
	}
	fmt.Printf("      %d MiB used of %d, %s processes (three are the test's)\n", used, total/1024, processes)
	if used > 120 {
		return fmt.Errorf("%d MiB", used)
	}
	return nil
}

func (in inside) watchdog() error {
	return errors.Join(
		in.is("systemctl show -P RuntimeWatchdogUSec", "14s"),
		in.is("systemctl show -P WatchdogDevice | grep -c /dev/watchdog", "1"),
		in.is("cat /sys/class/watchdog/watchdog0/state", "active"))
}

// stuck stops the daemon; systemd has to notice by itself (WatchdogSec, TimeoutAbortSec) and start another one.
func (in inside) stuck() error {
	old, err := in.sh.run(in.ctx, "systemctl show -P MainPID pibox.service")
	if err != nil {
		return err
	}
	if _, err := in.sh.run(in.ctx, "kill -STOP "+old); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(in.ctx, 4*time.Minute)
	defer cancel()
	err = retry(ctx, func() error {
		now, err := in.sh.run(in.ctx, "systemctl is-active pibox.service && systemctl show -P MainPID pibox.service")
		if err == nil && strings.HasSuffix(now, "\n"+old) {
			err = errors.New("the same process")
		}
		return err
	})
	if err != nil {
		return err
	}
	return in.is("systemctl show -P NRestarts pibox.service", "1")
}

// light gives the daemon the keyboard's caps lock, as docs/leds.md says for a light with another name, and watches it change.
func (in inside) light() error {
	const name = `$(basename /sys/class/leds/*capslock)`
	_, err := in.sh.run(in.ctx, `mkdir -p /run/systemd/system/pibox.service.d /run/udev/rules.d
sed 's/ACT|PWR|led0|led1/*capslock/' /usr/lib/udev/rules.d/60-pibox-leds.rules >/run/udev/rules.d/61-test.rules
udevadm control --reload && udevadm trigger --settle --subsystem-match=leds
printf '[health]\nstatus_led = "%s"\npower_led = "none"\n' `+name+` >/run/light.toml
printf '[Service]\nReadWritePaths=/sys/class/leds/%s\nExecStart=\nExecStart=/usr/bin/pibox serve --config /run/light.toml\n' `+name+` >/run/systemd/system/pibox.service.d/light.conf
systemctl daemon-reload && systemctl restart pibox.service`)
	if err != nil {
		return err
	}
	// Well, or degraded: lit, with winks.
	return in.is(`for i in $(seq 80); do cat /sys/class/leds/*capslock/brightness; sleep 0.1; done | sort -u | wc -l`, "2")
}

// idle counts the sectors that are written to the card, by partition, while nobody does anything.
func (in inside) idle(time string) error {
	out, err := in.sh.run(in.ctx, `look() { for p in fat root-a root-b data; do awk "{ print \"$p\", \$7 }" /sys/class/block/$(basename $(readlink -f /dev/pibox/$p))/stat; done; }
before=$(look); sleep `+time+`; after=$(look)
echo "$before" >/run/before; echo "$after" >/run/after
paste -d ' ' /run/before /run/after | awk '{ print $1, $4 - $2 }'`)
	if err != nil {
		return err
	}
	fmt.Printf("      sectors written in %s s: %s\n", time, strings.ReplaceAll(out, "\n", ", "))
	for line := range strings.Lines(out) {
		var name string
		var n int
		if _, err := fmt.Sscan(line, &name, &n); err != nil {
			return fmt.Errorf("%q: %w", out, err)
		}
		if n > 0 && name != "data" {
			return fmt.Errorf("%d sectors of %s", n, name)
		}
	}
	return nil
}
