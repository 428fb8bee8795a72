package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// machine is an emulated board.
type machine struct {
	name    string
	console string // for the kernel
	// args starts it with a card. The serial line is standard output.
	args func(root, card string, readOnly bool) []string
	// dtb is the device tree in the slot, "" for the one that the board brings; dtbName is what u-boot calls it.
	dtb, dtbName string
	noPowerOff   bool // nobody listens to it
	noReadOnly   bool // QEMU has no read-only card there
}

func virt() machine {
	return machine{
		name: "virt", console: "console=ttyAMA0 panic=1",
		args: func(root, card string, readOnly bool) []string {
			drive := "if=none,id=card,format=raw,file=" + card
			if readOnly {
				drive += ",readonly=on"
			}
			return []string{
				"-M", "virt", "-cpu", "cortex-a53", "-m", "512", "-bios", filepath.Join(root, "usr/lib/u-boot/qemu_arm64/u-boot.bin"),
				"-drive", drive, "-device", "virtio-blk-device,drive=card", "-serial", "stdio",
			}
		},
	}
}

func raspi3b(root string) (machine, error) {
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/linux-image-*/broadcom/bcm2837-rpi-3-b.dtb"))
	if err != nil || len(found) != 1 {
		return machine{}, fmt.Errorf("device tree of the Pi 3: %q, %w", found, err)
	}
	return machine{
		name: "raspi3b", console: "console=ttyS1,115200 panic=1 modprobe.blacklist=bcm2835_wdt",
		dtb: found[0], dtbName: "broadcom/bcm2837-rpi-3-b.dtb", noPowerOff: true, noReadOnly: true,
		args: func(root, card string, _ bool) []string {
			return []string{
				"-M", "raspi3b", "-kernel", filepath.Join(root, "usr/lib/u-boot/rpi_arm64/u-boot.bin"), "-dtb", found[0],
				"-drive", "if=sd,format=raw,file=" + card, "-serial", "null", "-serial", "stdio",
			}
		},
	}, nil
}

// marker begins the line in which the init tells who it is.
const marker = "SLOTTEST initrd="

// boots runs the machine until it was started n times or time is up, and returns what each start told.
func (m machine) boots(ctx context.Context, root, card string, readOnly bool, n int, log io.Writer) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute*time.Duration(n))
	defer cancel()
	args := append(m.args(root, card, readOnly), "-display", "none", "-monitor", "none", "-nic", "none", "-no-user-config")
	if n == 1 {
		args = append(args, "-no-reboot") // a kernel that panics is not tried again
	}
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var told []string
	lines := bufio.NewScanner(io.TeeReader(out, log))
	lines.Buffer(nil, 1<<20)
	for len(told) < n && lines.Scan() {
		if _, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), marker); ok {
			told = append(told, rest)
		}
	}
	if len(told) < n {
		err = errors.Join(errors.New("it did not start as often as it should have"), lines.Err(), ctx.Err())
	}
	// The last start is known from its line: what u-boot wrote is written.
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return told, err
}

// check tells whether a start was the wanted one. told is the initrd's label, and the kernel's command line.
func check(told string, want boot, extra string) error {
	label, cmdline, _ := strings.Cut(told, " cmdline=")
	trial := map[bool]string{true: "1", false: "0"}[want.trial]
	part := map[string]string{"a": "02", "b": "03"}[want.slot]
	words := []string{
		"pibox.slot=" + want.slot, "pibox.trial=" + trial, fmt.Sprintf("root=PARTUUID=%08x-%s", diskID, part), "ro",
		"slottest.of=" + want.slot,
	}
	have := strings.Fields(cmdline)
	for _, w := range append(words, strings.Fields(extra)...) {
		found := false
		for _, h := range have {
			found = found || h == w
		}
		if !found {
			return fmt.Errorf("the command line %q lacks %q", cmdline, w)
		}
	}
	if label != want.slot {
		return fmt.Errorf("the kernel of slot %s got the initrd of slot %s", want.slot, label)
	}
	return nil
}
