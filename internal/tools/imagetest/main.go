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
	"syscall"
	"time"
)

func main() {
	var t tester
	flag.StringVar(&t.image, "image", "dist/pibox-arm64.img.zst", "the `image` to try")
	flag.StringVar(&t.manifest, "manifest", "dist/pibox.rpi-imager-manifest", "its `manifest` for Raspberry Pi Imager")
	flag.StringVar(&t.uboot, "uboot", "dist/image/u-boot-virt.bin", "u-boot for QEMU's board virt, which has no firmware to load it from the card")
	flag.StringVar(&t.only, "only", "", "one `boot` alone")
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
	image, manifest, uboot, only string
	keep                         bool
	torture                      *torture // in place of the boots

	dir            string
	card           card
	passed, failed int
}

// boots are all that are played, in order, on the same card.
func (t *tester) boots() []struct {
	name  string
	limit time.Duration
	play  func(context.Context) error
} {
	return []struct {
		name  string
		limit time.Duration
		play  func(context.Context) error
	}{
		{"first", 10 * time.Minute, t.firstBoot},
		{"second", 5 * time.Minute, t.secondBoot},
		{"raspi3b", 10 * time.Minute, t.raspberry},
	}
}

func (t *tester) all(ctx context.Context) (ok bool, err error) {
	for _, p := range []string{"qemu-system-aarch64", "mcopy"} {
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
		t.card, err = flash(t.image, t.manifest, filepath.Join(t.dir, "card"))
		return err
	})
	if t.failed > 0 {
		return false, nil
	}
	if t.torture != nil {
		t.torture.master = t.card
		err := t.torture.all(ctx)
		return err == nil, err
	}
	for _, b := range t.boots() {
		if t.only != "" && t.only != b.name {
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
