package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"pibox/internal/slot"
	"pibox/internal/testbox"
)

// card is a box of the card image in a folder: slot A has the old pibox, slot B another one.
type card struct {
	dir    string
	builds [2]string // by slot
	box    *testbox.Box
	runs   slot.Slot
}

func (c *card) in(name string) string { return filepath.Join(c.dir, name) }

func (c *card) write(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(c.in(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(c.in(name), []byte(text), 0o600)
}

// fresh makes the card as it is after an update was written: slot B is to be tried. The data are those of base.
func (c *card) fresh(base string) error {
	c.box.Kill()
	if err := errors.Join(os.RemoveAll(c.in("box/data")), os.RemoveAll(c.in("update"))); err != nil {
		return err
	}
	if base != "" {
		if out, err := exec.Command("cp", "-a", base, c.in("box/data")).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	err := c.write("os-release", "IMAGE_ID=pibox\nIMAGE_VERSION=any\nPIBOX_RELEASE=3\n")
	for n := 1; n <= 4; n++ {
		err = errors.Join(err, c.write(fmt.Sprintf("sys/mmcblk0/mmcblk0p%d/partition", n), fmt.Sprintln(n)))
	}
	sector := make([]byte, 100*slot.Size)
	copy(sector[slot.Sector*slot.Size:], slot.State{Good: slot.A, Trial: slot.B, Tries: 3, Generation: 1}.Encode())
	return errors.Join(err, c.write("dev/mmcblk0", string(sector)), os.MkdirAll(c.in("sys/dev/block"), 0o755))
}

func (c *card) disk() slot.Device { return slot.Device{Path: c.in("dev/mmcblk0")} }

// boot does what u-boot does, and the unit that starts first. Without tries it is the last one that is left.
func (c *card) boot(ctx context.Context, outOfTries bool) error {
	c.box.Kill()
	var took slot.Slot
	trial := 0
	if _, err := c.disk().Update(func(s slot.State) slot.State {
		if outOfTries {
			s.Tries = 0
		}
		if took = s.Next(); s.Trial != slot.None && s.Tries > 0 {
			s.Tries--
			trial = 1
		}
		return s
	}); err != nil {
		return err
	}
	c.runs = took
	_ = os.Remove(c.in("sys/dev/block/179:2"))
	if err := errors.Join(
		os.RemoveAll(c.in("run")),
		c.write("cmdline", fmt.Sprintf("ro pibox.slot=%s pibox.trial=%d\n", took, trial)),
		os.Symlink(fmt.Sprintf("../../mmcblk0/mmcblk0p%d", 2+took), c.in("sys/dev/block/179:2")),
	); err != nil {
		return err
	}
	c.box.Binary = c.builds[took]
	if out, err := c.command(ctx, "update", "boot").CombinedOutput(); err != nil {
		return fmt.Errorf("update boot: %w: %s", err, out)
	}
	return nil
}

// command is one of the pibox that runs; systemctl only leaves a mark.
func (c *card) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.box.Binary, append([]string{"--config", c.box.ConfigFile()}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+c.in("bin")+":"+os.Getenv("PATH"))
	return cmd
}

func (c *card) restarted() bool {
	_, err := os.Stat(c.in("restarted"))
	_ = os.Remove(c.in("restarted"))
	return err == nil
}

// confirmed tells whether slot B stays.
func (c *card) confirmed() (bool, error) {
	s, err := c.disk().Read()
	return s.Good == slot.B, err
}
