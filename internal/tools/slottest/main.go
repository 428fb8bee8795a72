// Command slottest boots small cards under QEMU and looks which root slot u-boot's script (image/boot.cmd) takes, and what it
// writes into the sector that tells (internal/slot). u-boot and the kernel are Debian's, as on the real card; the user space
// is one program.
//
//	slottest -debian FOLDER [-machine virt|raspi3b] [-case WORDS] [-log FILE]
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/slot"
)

type tester struct {
	debian, script, work string
	m                    machine
	kernel, init         []byte
	log                  io.Writer
	made                 map[string]string // what was made already, by what it is
}

func main() {
	debian := flag.String("debian", "", "`folder` that setup.sh filled")
	script := flag.String("script", "image/boot.cmd", "u-boot's `file`")
	name := flag.String("machine", "virt", "virt or raspi3b")
	only := flag.String("case", "", "only cases with these `words` in their names")
	log := flag.String("log", "", "`file` for what the machines say")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := test(ctx, *debian, *script, *name, *only, *log); err != nil {
		fmt.Fprintln(os.Stderr, "slottest:", err)
		os.Exit(1)
	}
}

func test(ctx context.Context, debian, script, name, only, log string) error {
	work, err := os.MkdirTemp("", "slottest")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	t := &tester{debian: filepath.Join(debian, "root"), script: script, work: work, log: io.Discard, made: map[string]string{}}
	if log != "" {
		f, err := os.Create(log)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		t.log = f
	}
	if err := t.prepare(name); err != nil {
		return err
	}
	failed, done, began := 0, 0, time.Now()
	for _, c := range cases() {
		if !strings.Contains(c.name, only) || c.readOnly && t.m.noReadOnly {
			continue
		}
		start := time.Now()
		err := t.one(ctx, c)
		result := "ok"
		if err != nil {
			result = "FAILED: " + err.Error()
			failed++
		}
		done++
		fmt.Printf("%-8s %-42s %4.0f s  %s\n", t.m.name, c.name, time.Since(start).Seconds(), result)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if failed > 0 || done == 0 {
		return fmt.Errorf("%d of %d cases failed", failed, done)
	}
	fmt.Printf("%s: %d cases, %.0f s\n", t.m.name, done, time.Since(began).Seconds())
	return nil
}

func (t *tester) prepare(name string) (err error) {
	if t.m = virt(); name == "raspi3b" {
		if t.m, err = raspi3b(t.debian); err != nil {
			return err
		}
	}
	kernels, err := filepath.Glob(filepath.Join(t.debian, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("kernel in %s: %q, %w", t.debian, kernels, err)
	}
	if t.kernel, err = os.ReadFile(kernels[0]); err != nil {
		return err
	}
	program := filepath.Join(t.work, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./internal/tools/slottest/init")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	t.init, err = os.ReadFile(program)
	return err
}

// one plays a case.
func (t *tester) one(ctx context.Context, c testCase) error {
	extra := t.m.console
	if c.fails != "" {
		extra += " slottest.fails=" + c.fails
	}
	p := parts{}
	var err error
	if p.fat, err = t.once("fat "+extra, func(dir string) (string, error) { return makeFAT(dir, t.script, extra) }); err != nil {
		return err
	}
	for i, d := range []damage{c.a, c.b} {
		label := slot.Slot(i).String()
		p.slots[i], err = t.once(fmt.Sprint("slot ", label, d), func(dir string) (string, error) { return t.slot(dir, label, d) })
		if err != nil {
			return err
		}
	}
	card := filepath.Join(t.work, "card")
	defer func() { _ = os.Remove(card) }()
	if err := makeCard(card, p, c.state); err != nil {
		return err
	}
	fmt.Fprintf(t.log, "\n######## %s: %s\n", t.m.name, c.name)
	told, err := t.m.boots(ctx, t.debian, card, c.readOnly, len(c.boots), t.log)
	for i, one := range told {
		if wrong := check(one, c.boots[i], extra); wrong != nil {
			err = errors.Join(err, fmt.Errorf("start %d: %w", i+1, wrong))
		}
	}
	if err != nil {
		return err
	}
	return checkState(card, c.want)
}

// once makes a file that several cases have in common.
func (t *tester) once(what string, make func(dir string) (string, error)) (string, error) {
	if path, ok := t.made[what]; ok {
		return path, nil
	}
	dir, err := os.MkdirTemp(t.work, "part")
	if err != nil {
		return "", err
	}
	path, err := make(dir)
	if err == nil {
		t.made[what] = path
	}
	return path, err
}

func (t *tester) slot(dir, label string, d damage) (string, error) {
	c := slotContent{
		label: label, kernel: t.kernel, init: t.init, noKernel: d == noKernel, noInitrd: d == noInitrd, commandLine: "slottest.of=" + label,
	}
	if d == garbledKernel {
		c.kernel = bytes.Repeat([]byte("no kernel "), 100000)
	}
	if t.m.dtb != "" {
		c.deviceTreeName = t.m.dtbName
		var err error
		if c.deviceTree, err = os.ReadFile(t.m.dtb); err != nil {
			return "", err
		}
	}
	path, err := makeSlot(dir, c)
	if err != nil || d != noSuperblock {
		return path, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	_, err = f.WriteAt(make([]byte, 1<<20), 0)
	return path, errors.Join(err, f.Close())
}

func checkState(card string, want []byte) error {
	f, err := os.Open(card)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	got := make([]byte, slot.Size)
	if _, err := f.ReadAt(got, slot.Sector*slot.Size); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the sector holds %x, want %x", got[:28], want[:28])
	}
	return nil
}
