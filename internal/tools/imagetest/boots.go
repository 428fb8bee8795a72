package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

const local = "pibox.local"

// firstBoot is a card fresh from the computer, on the board that shows most: all that is looked at from inside.
func (t *tester) firstBoot(ctx context.Context) error {
	m, err := boot(ctx, t.virt(t.card.file), filepath.Join(t.dir, "first"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx, local); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	var admin person
	var trusted, text string
	t.check("pibox-status.txt tells the administrator's one-time password and the certificate", func() (err error) {
		if text, err = t.card.says(ctx, m, "    password  ", "certificate"); err == nil {
			trusted, err = m.certificate(ctx, local, text)
		}
		if err == nil {
			admin, err = wayIn(text)
		}
		return err
	})
	t.tell("from power to the password on the card", m.began)
	sh, err := openShell(ctx, m)
	if err != nil {
		return err
	}
	romeo := person{"romeo@" + local, "a long enough word for romeo"}
	t.check("slixmpp logs in from outside with it, and people write to each other", func() error {
		if _, err := sh.run(ctx, "echo '"+romeo.password+"' | pibox user add romeo --password-stdin"); err != nil {
			return err
		}
		return m.chat(ctx, trusted, admin, romeo)
	})
	t.tell("from power to the first messages", m.began)
	t.check("the password is erased from the card", func() error { return t.card.erased(ctx, m, admin.password) })
	t.lookInside(inside{ctx, sh})
	t.check("a stuck daemon is restarted", inside{ctx, sh}.stuck)
	t.check("and serves again", func() error {
		if err := m.serving(ctx, local); err != nil {
			return err
		}
		return m.chat(ctx, trusted, romeo)
	})
	t.check("a light of the LED class is driven, by the daemon in its sandbox", inside{ctx, sh}.light)
	t.check("an orderly shut-down ends", func() error {
		_, _ = sh.run(ctx, "systemctl poweroff")
		return m.off(ctx)
	})
	return nil
}

func (t *tester) lookInside(in inside) {
	t.check("no unit has failed", in.noFailedUnit)
	t.check("nothing listens but pibox and mDNS", in.listening)
	t.check("no other service runs than these", in.services)
	t.check("the root file system is read-only, what may be written lies on data and in memory", in.readOnly)
	t.check("the data partition and its file system fill the card", in.grown)
	t.check("nobody can log in", in.nobody)
	t.check("the clock is not before the build, without any time source", in.clock)
	t.check("the log is in memory and bounded", in.journal)
	t.check("the whole system uses less than 120 MB", in.memory)
	t.check("the hardware watchdog is armed", in.watchdog)
	t.check("nothing is written but to the data partition", func() error { return in.idle(strconv.Itoa(int(t.idle.Seconds()))) })
}

// secondBoot is the same card with mistakes in pibox.toml and the file recover, without the way in: as a household would see it.
func (t *tester) secondBoot(ctx context.Context) error {
	if err := errors.Join(
		t.card.put("pibox.toml", "family = \"Capulet\"\nnonsense = 1\n[wifi]\nssid = \"Verona\"\npassword = \"wherefore art thou\"\n"),
		t.card.put("recover", "")); err != nil {
		return err
	}
	before, err := t.card.status()
	if err != nil {
		return err
	}
	m, err := boot(ctx, t.virt(t.card.file).sealed(), filepath.Join(t.dir, "second"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx, local); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	var text string
	t.check("a pibox.toml with mistakes: the status tells them, what is good counts", func() (err error) {
		text, err = t.card.says(ctx, m, "needs attention", "family Capulet", "nonsense", "country", "    password  ")
		return err
	})
	t.check("the file recover: a new one-time password opens the door, and the file is gone", func() error {
		admin, err := wayIn(text)
		if err != nil {
			return err
		}
		if strings.Contains(before, admin.password) {
			return errors.New("the password is an old one")
		}
		trusted, err := m.certificate(ctx, local, text)
		if err != nil {
			return err
		}
		if err := m.chat(ctx, trusted, admin); err != nil {
			return err
		}
		if t.card.has("recover") {
			return errors.New("the file recover is still there")
		}
		return t.card.erased(ctx, m, admin.password)
	})
	return nil
}

const settings = `family = "Miller"
domain = "miller.example"
hostname = "attic"
time_zone = "Europe/Berlin"

[administrator]
name = "mum"
password = "a word that mum chose"

[wifi]
ssid = "Verona"
password = "wherefore art thou"
country = "IT"
`

// setUp is a new card with a good pibox.toml.
func (t *tester) setUp(ctx context.Context) error {
	c, err := t.fresh.copyTo(filepath.Join(t.dir, "card-set-up"))
	if err != nil {
		return err
	}
	if err := c.put("pibox.toml", settings); err != nil {
		return err
	}
	m, err := boot(ctx, t.virt(c.file), filepath.Join(t.dir, "settings"))
	if err != nil {
		return err
	}
	defer m.cut()
	const domain = "miller.example"
	if err := m.serving(ctx, domain); err != nil {
		return err
	}
	t.check("the administrator of pibox.toml logs in at its domain, with the password that stood there", func() error {
		text, err := c.says(ctx, m, "family Miller", "attic.local", "mum@"+domain, "certificate")
		if err != nil {
			return err
		}
		trusted, err := m.certificate(ctx, domain, text)
		if err != nil {
			return err
		}
		return m.chat(ctx, trusted, person{"mum@" + domain, "a word that mum chose"})
	})
	t.check("its passwords are nowhere on the first partition", func() error {
		return errors.Join(c.nowhere("a word that mum chose"), c.nowhere("wherefore art thou"))
	})
	sh, err := openShell(ctx, m)
	if err != nil {
		return err
	}
	in := inside{ctx, sh}
	t.check("host name, time zone and Wi-Fi are those of pibox.toml", func() error {
		return errors.Join(
			in.is("hostname", "attic"), in.is("date -d @0 +%H", "01"),
			in.is("stat -c %a:%U /data/etc/wpa_supplicant.conf", "600:root"),
			in.is("grep -c -e country=IT -e ssid= /data/etc/wpa_supplicant.conf", "2"),
			in.is("grep -c wherefore /data/etc/wpa_supplicant.conf || true", "0"))
	})
	return nil
}

// cutBoot takes the power away just when the partition table was written, and when the server answered for the first time.
func (t *tester) cutBoot(ctx context.Context) error {
	c, err := t.fresh.copyTo(filepath.Join(t.dir, "card-cut"))
	if err != nil {
		return err
	}
	moments := []struct {
		name  string
		until func(*vm) error
	}{
		{"when the partition table is written", func(m *vm) error {
			return retry(ctx, func() error {
				size, err := c.dataSize()
				if err == nil && size == imageSize-dataStart {
					err = errors.New("the data partition has not grown")
				}
				return errors.Join(err, m.runs())
			})
		}},
		{"at the server's first answer", func(m *vm) error { return m.serving(ctx, local) }},
	}
	for i, moment := range moments {
		m, err := boot(ctx, t.virt(c.file).sealed(), filepath.Join(t.dir, "cut"+strconv.Itoa(i)))
		if err != nil {
			return err
		}
		err = moment.until(m)
		m.cut()
		if err != nil {
			return fmt.Errorf("%s: %w", moment.name, err)
		}
	}
	m, err := boot(ctx, t.virt(c.file), filepath.Join(t.dir, "cut"))
	if err != nil {
		return err
	}
	defer m.cut()
	t.check("cut in the first boot, when the partition table was written and when the server answered first: the next one serves", func() error {
		return m.serving(ctx, local)
	})
	sh, err := openShell(ctx, m)
	if err != nil {
		return err
	}
	in := inside{ctx, sh}
	t.check("its data partition and file system fill the card, and no unit has failed", func() error {
		return errors.Join(in.grown(), in.noFailedUnit())
	})
	return nil
}

// noData is a card whose data partition is damaged beyond repair.
func (t *tester) noData(ctx context.Context) error {
	c, err := t.fresh.copyTo(filepath.Join(t.dir, "card-no-data"))
	if err != nil {
		return err
	}
	if err := c.wipe(dataStart, imageSize-dataStart); err != nil {
		return err
	}
	m, err := boot(ctx, t.virt(c.file).sealed(), filepath.Join(t.dir, "no-data"))
	if err != nil {
		return err
	}
	defer m.cut()
	t.check("without a data partition the status says so", func() error {
		_, err := c.says(ctx, m, "It does not work", "data partition is missing or damaged")
		return err
	})
	return nil
}

// raspberry is the emulated Raspberry Pi 3, once: its SD controller, its network by USB, the device tree that is on the card. Its
// watchdog, which QEMU would let bite at once, stays off by words that only this card has.
func (t *tester) raspberry(ctx context.Context) error {
	c, err := t.fresh.copyTo(filepath.Join(t.dir, "card-raspi3b"))
	if err != nil {
		return err
	}
	dtb, uboot := filepath.Join(t.dir, "pi3.dtb"), filepath.Join(t.dir, "u-boot.bin")
	err = errors.Join(
		c.take("bcm2837-rpi-3-b.dtb", dtb), c.take("u-boot.bin", uboot),
		c.put("extra.env", "extra=systemd.watchdog_sec=0 modprobe.blacklist=bcm2835_wdt\n"))
	if err != nil {
		return err
	}
	m, err := boot(ctx, raspi3b(uboot, dtb, c.file), filepath.Join(t.dir, "raspi3b"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx, local); err != nil {
		return err
	}
	t.tell("from power to the server's first answer", m.began)
	t.check("slixmpp logs in with the password of pibox-status.txt", func() error {
		text, err := c.says(ctx, m, "    password  ", "certificate")
		if err != nil {
			return err
		}
		admin, err := wayIn(text)
		if err != nil {
			return err
		}
		trusted, err := m.certificate(ctx, local, text)
		if err != nil {
			return err
		}
		return errors.Join(m.chat(ctx, trusted, admin), c.erased(ctx, m, admin.password))
	})
	t.check("the data partition fills the card", func() error {
		size, err := c.dataSize()
		if err == nil && size != cardSize-dataStart {
			err = fmt.Errorf("%d bytes, want %d", size, cardSize-dataStart)
		}
		return err
	})
	return nil
}

// idleHour counts what an hour writes in which nobody logs in. Its hour is emulated: with sleep=off the time in which the guest waits does not pass.
func (t *tester) idleHour(ctx context.Context) error {
	c, err := t.fresh.copyTo(filepath.Join(t.dir, "card-idle"))
	if err != nil {
		return err
	}
	h := t.virt(c.file)
	h.icount = "shift=2,sleep=off"
	m, err := boot(ctx, h, filepath.Join(t.dir, "idle"))
	if err != nil {
		return err
	}
	defer m.cut()
	if err := m.serving(ctx, local); err != nil {
		return err
	}
	sh, err := openShell(ctx, m)
	if err != nil {
		return err
	}
	in := inside{ctx, sh}
	t.check("ten minutes later it uses less than 120 MB", func() error {
		return errors.Join(in.is("sleep 600", ""), in.memory())
	})
	t.check("in an idle hour nothing is written but to the data partition", func() error { return in.idle("3600") })
	return nil
}
