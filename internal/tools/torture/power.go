package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"pibox/internal/testbox"
	"pibox/internal/tools/powercut"
)

// power is what the box's data lie on, and how its power is cut.
type power struct {
	dir   string         // the box's data folder
	disk  *powercut.Disk // nil: the machine's own file system, and what the kernel holds of it survives
	mount *powercut.Mount
	toll  powercut.Toll // of the last cut
}

// The kinds of disk.
const (
	diskCard   = "card"
	diskKernel = "kernel"
)

func newPower(kind, dir string, latency func() time.Duration) (*power, error) {
	p := &power{dir: dir}
	switch kind {
	case diskKernel:
	case diskCard:
		if err := powercut.Available(); err != nil {
			return nil, fmt.Errorf("%w. '-disk %s' needs none of it, and shows less", err, diskKernel)
		}
		p.disk = powercut.New()
		p.disk.Latency = latency
	default:
		return nil, fmt.Errorf("-disk is %s or %s", diskCard, diskKernel)
	}
	return p, os.MkdirAll(dir, 0o700)
}

// fill replaces all data by those of a folder; "" is none.
func (p *power) fill(from string) error {
	if p.disk == nil {
		if err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o700)); err != nil || from == "" {
			return err
		}
		return os.CopyFS(p.dir, os.DirFS(from))
	}
	disk, err := powercut.New(), error(nil)
	if from != "" {
		disk, err = powercut.Load(from)
	}
	if err != nil {
		return err
	}
	disk.Latency, p.disk = p.disk.Latency, disk
	return p.off()
}

// on makes the data available to the box.
func (p *power) on() (err error) {
	if p.disk == nil || p.mount != nil {
		return nil
	}
	p.mount, err = p.disk.Mount(p.dir)
	return err
}

// off takes them away.
func (p *power) off() error {
	if p.mount == nil {
		return nil
	}
	err := p.mount.Close()
	p.mount = nil
	return err
}

// cutAfter lets the power fail after n changes to the disk; 0 takes that back.
func (p *power) cutAfter(n int) {
	if p.disk != nil {
		p.disk.CutAfter(n)
	}
}

// whenCut is closed when that has happened.
func (p *power) whenCut() <-chan struct{} {
	if p.disk == nil {
		return nil
	}
	return p.disk.WhenCut()
}

func (p *power) isCut() bool {
	select {
	case <-p.whenCut():
		return true
	default:
		return false
	}
}

// stand lets the disk stand still, and release lets what waits for it fail: between them, the processes that use it are killed.
func (p *power) stand() {
	if p.disk != nil {
		p.disk.Cut()
	}
}

func (p *power) release() {
	if p.disk != nil {
		p.disk.Release()
	}
}

// strike ends the box at this moment. Its last writes are as far as they are: the disk stands still before the process is killed.
func (p *power) strike(b *testbox.Box) {
	p.stand()
	b.Signal(syscall.SIGKILL)
	p.release()
	b.Kill()
}

// cut is strike, and what is found on the disk when the power is back.
func (p *power) cut(b *testbox.Box, rng *rand.Rand) error {
	p.strike(b)
	if p.disk == nil {
		return nil
	}
	if err := p.off(); err != nil {
		return err
	}
	p.disk, p.toll = p.disk.Survivor(rng)
	return nil
}

// save copies what is durable to a new folder; the box is down.
func (p *power) save(folder string) error {
	if p.disk == nil {
		return os.CopyFS(folder, os.DirFS(p.dir))
	}
	return p.disk.Save(folder)
}

// tryDisk shows that the disk, as it is mounted here, loses what is not synced and nothing else.
func tryDisk(dir string) error {
	lost := false
	for seed := range uint64(40) {
		there, err := tryOnce(filepath.Join(dir, "try"), rand.New(rand.NewPCG(seed, 1)))
		if err != nil {
			return fmt.Errorf("the disk is not fit for this: %w", err)
		}
		lost = lost || !there
	}
	if !lost {
		return errors.New("the disk is not fit for this: what was not synced always survived")
	}
	return nil
}

func tryOnce(dir string, rng *rand.Rand) (unsynced bool, err error) {
	p, err := newPower(diskCard, dir, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.off(), os.Remove(dir)) }()
	if err := p.on(); err != nil {
		return false, err
	}
	name := func(base string) string { return filepath.Join(dir, base) }
	if err := writeSynced(name("new"), "synced"); err != nil {
		return false, err
	}
	if err := errors.Join(os.Rename(name("new"), name("kept")), syncFolder(dir), os.WriteFile(name("lost"), []byte("not synced"), 0o600)); err != nil {
		return false, err
	}
	p.disk.Release()
	if err := p.off(); err != nil {
		return false, err
	}
	p.disk, _ = p.disk.Survivor(rng)
	if err := p.on(); err != nil {
		return false, err
	}
	if raw, err := os.ReadFile(name("kept")); err != nil || string(raw) != "synced" {
		return false, fmt.Errorf("what was synced is lost: %q (%w)", raw, err)
	}
	raw, err := os.ReadFile(name("lost"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return string(raw) == "not synced", nil
}

func writeSynced(path, text string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
