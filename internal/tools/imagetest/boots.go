package main

import (
	"context"
	"path/filepath"
)

// firstBoot is a card fresh from the computer, on the board that shows most: all that is looked at from inside.
func (t *tester) firstBoot(ctx context.Context) error {
	m, err := boot(ctx, virt(t.uboot, t.card.file), filepath.Join(t.dir, "first"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	sh, err := openShell(ctx, m)
	if err != nil {
		return err
	}
	in := inside{ctx, sh}
	f := &family{ctx: ctx, m: m, sh: sh}
	t.check("a client logs in from outside, by STARTTLS and by TLS", f.login)
	t.check("messages go both ways", f.talk)
	t.check("no unit has failed", in.noFailedUnit)
	t.check("nothing listens but pibox and mDNS", in.listening)
	t.check("no other port answers from outside", in.services)
	t.check("the root file system is read-only, what may be written lies on data and in memory", in.readOnly)
	t.check("the data partition fills the card", in.grown)
	t.check("nobody can log in", in.nobody)
	t.check("the clock is not before the build, without any time source", in.clock)
	t.check("the log is in memory and bounded", in.journal)
	t.check("the whole system uses less than 120 MB", in.memory)
	t.check("the hardware watchdog is armed", in.watchdog)
	t.check("a stuck daemon is restarted", in.stuck)
	t.check("and serves again", f.login)
	t.check("a light of the LED class is driven, by the daemon in its sandbox", in.light)
	t.check("an orderly shut-down ends", func() error {
		_, _ = sh.run(ctx, "systemctl poweroff")
		return m.off(ctx)
	})
	return nil
}

// secondBoot is after an orderly end, without the way in: as a household would see it.
func (t *tester) secondBoot(ctx context.Context) error {
	h := virt(t.uboot, t.card.file)
	h.shell = false
	m, err := boot(ctx, h, filepath.Join(t.dir, "second"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	return nil
}

// raspberry is the emulated Raspberry Pi 3, once: its SD controller, its network by USB, the device tree that is on the card. Its
// watchdog, which QEMU would let bite at once, stays off by words that only this card has.
func (t *tester) raspberry(ctx context.Context) error {
	dtb, uboot := filepath.Join(t.dir, "pi3.dtb"), filepath.Join(t.dir, "u-boot.bin")
	if err := t.card.take("bcm2837-rpi-3-b.dtb", dtb); err != nil {
		return err
	}
	if err := t.card.take("u-boot.bin", uboot); err != nil {
		return err
	}
	if err := t.card.put("extra.env", "extra=systemd.watchdog_sec=0 modprobe.blacklist=bcm2835_wdt\n"); err != nil {
		return err
	}
	m, err := boot(ctx, raspi3b(uboot, dtb, t.card.file), filepath.Join(t.dir, "raspi3b"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	return nil
}
