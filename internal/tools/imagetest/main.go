// Command imagetest boots the card image under QEMU, as it is shipped, and tries it from outside and, by a way in that only a virtual
// machine has (vm.go), from inside. docs/image.md lists what it looks at; docs/hardware.md, what no emulation shows.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var t tester
	flag.StringVar(&t.image, "image", "dist/pibox-arm64.img.zst", "the `image` to try")
	flag.StringVar(&t.manifest, "manifest", "dist/pibox.rpi-imager-manifest", "its `manifest` for Raspberry Pi Imager")
	flag.StringVar(&t.uboot, "uboot", "dist/image/u-boot-virt.bin", "u-boot for QEMU's board virt, which has no firmware to load it from the card")
	flag.StringVar(&t.only, "only", "", "these `parts` alone, with commas between them")
	flag.DurationVar(&t.idle, "idle", time.Minute, "how long to count what is written while nobody does anything")
	flag.StringVar(&t.icount, "icount", "", "QEMU's -icount: the emulated time then goes with what is computed, which a machine that others use as well needs")
	flag.BoolVar(&t.keep, "keep", false, "keep the folder with the card and the consoles")
	cuts := flag.Int("cuts", 0, "cut the power so `often`, and nothing else (make image-torture)")
	seed := flag.Uint64("seed", 1, "what the lot begins with")
	tt := torture{tester: &t}
	flag.StringVar(&tt.pibox, "pibox", "bin/pibox", "this machine's `pibox`, for -cuts")
	flag.StringVar(&tt.root, "root", "dist/image/root.ext4", "the image's `root` slot, for -cuts")
	flag.StringVar(&tt.key, "key", "dist/update-test.key", "the secret `key` of updates that the image trusts, for -cuts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *cuts > 0 {
		tt.left, tt.lot = *cuts, rand.New(rand.NewPCG(*seed, 1))
		t.torture = &tt
	}
	ok, err := t.all(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "imagetest:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

type tester struct {
	image, manifest, uboot, only, icount string
	idle                                 time.Duration
	keep                                 bool
	torture                              *torture // in place of the parts

	dir            string
	fresh          card // as it was flashed
	card           card // of the first and the second boot
	passed, failed int
}

// part is one or more boots that belong together.
type part struct {
	name  string
	limit time.Duration
	play  func(context.Context) error
	extra bool // only when it is named
}

// parts are all that are played, in order. The second needs the first.
func (t *tester) parts() []part {
	return []part{
		{"first", 15*time.Minute + t.idle, t.firstBoot, false},
		{"second", 10 * time.Minute, t.secondBoot, false},
		{"settings", 10 * time.Minute, t.setUp, false},
		{"cut", 15 * time.Minute, t.cutBoot, false},
		{"no-data", 10 * time.Minute, t.noData, false},
		{"raspi3b", 15 * time.Minute, t.raspberry, false},
		{"idle", 30 * time.Minute, t.idleHour, true},
	}
}

func (t *tester) all(ctx context.Context) (ok bool, err error) {
	for _, p := range []string{"qemu-system-aarch64", "mcopy", python} {
		if _, err := exec.LookPath(p); err != nil {
			return false, fmt.Errorf("%w (image/setup.sh installs what this needs)", err)
		}
	}
	if t.dir, err = os.MkdirTemp("", "pibox-imagetest-"); err != nil {
		return false, err
	}
	defer func() {
		if t.keep || !ok {
			fmt.Println("kept:", t.dir)
			return
		}
		_ = os.RemoveAll(t.dir)
	}()
	t.check("the image is what its manifest says", func() (err error) {
		if t.fresh, err = flash(t.image, t.manifest, filepath.Join(t.dir, "fresh")); err == nil {
			t.card, err = t.fresh.copyTo(filepath.Join(t.dir, "card"))
		}
		return err
	})
	if t.failed > 0 {
		return false, nil
	}
	if t.torture != nil {
		err := t.torture.all(ctx)
		return err == nil, err
	}
	for _, b := range t.parts() {
		if named := slices.Contains(strings.Split(t.only, ","), b.name); !named && (t.only != "" || b.extra) {
			continue
		}
		fmt.Println("==", b.name)
		bounded, cancel := context.WithTimeout(ctx, b.limit)
		err := b.play(bounded)
		cancel()
		if err != nil {
			t.failed++
			fmt.Printf("FAIL  %s: %v\n", b.name, err)
		}
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	return t.failed == 0, nil
}

// check tells how one thing went. The next is tried all the same.
func (t *tester) check(name string, f func() error) {
	began := time.Now()
	err := f()
	took := time.Since(began).Round(100 * time.Millisecond)
	if err != nil {
		t.failed++
		fmt.Printf("FAIL  %s (%s): %v\n", name, took, err)
		return
	}
	t.passed++
	fmt.Printf("ok    %s (%s)\n", name, took)
}

// tell is a figure that nothing is measured by.
func (t *tester) tell(what string, since time.Time) {
	fmt.Printf("      %s: %s\n", what, time.Since(since).Round(100*time.Millisecond))
}
