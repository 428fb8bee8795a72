package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The layout of the test card, in sectors of 512 bytes. QEMU wants an SD card to have a power of two.
const (
	cardSectors = 512 << 20 / 512
	fatStart    = 8192
	fatSectors  = 32 << 20 / 512
	slotStart   = fatStart + fatSectors
	slotSectors = 160 << 20 / 512
	diskID      = 0x51b0c5d0
)

// parts are the files that a card is made of, each made once.
type parts struct {
	fat   string
	slots [2]string
}

// slotContent is what a slot's file system holds.
type slotContent struct {
	label          string
	kernel, init   []byte
	noKernel       bool
	noInitrd       bool
	commandLine    string // in slot.env
	deviceTree     []byte // of fdtfile
	deviceTreeName string
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}

// makeFAT makes the first partition, with boot.scr of script.
func makeFAT(dir, script, extra string) (string, error) {
	scr, env, fat := filepath.Join(dir, "boot.scr"), filepath.Join(dir, "extra.env"), filepath.Join(dir, "fat")
	if err := run("mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-n", "pibox", "-d", script, scr); err != nil {
		return "", err
	}
	if err := os.WriteFile(env, []byte("extra="+extra+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := sized(fat, fatSectors*512); err != nil {
		return "", err
	}
	if err := run("mformat", "-i", fat, "-v", "PIBOX", "-T", fmt.Sprint(fatSectors), "::"); err != nil {
		return "", err
	}
	return fat, run("mcopy", "-i", fat, scr, env, "::")
}

func sized(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Truncate(n)
}

// makeSlot makes a slot's file system.
func makeSlot(dir string, c slotContent) (string, error) {
	root := filepath.Join(dir, "root-"+c.label)
	boot := filepath.Join(root, "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(root) }()
	initrd, err := makeInitrd(c.label, c.init)
	if err != nil {
		return "", err
	}
	files := map[string][]byte{"vmlinuz": c.kernel, "initrd.img": initrd, "slot.env": []byte("args=" + c.commandLine + "\n")}
	if c.noKernel {
		delete(files, "vmlinuz")
	}
	if c.noInitrd {
		delete(files, "initrd.img")
	}
	if c.deviceTreeName != "" {
		files[filepath.Join("dtb", c.deviceTreeName)] = c.deviceTree
	}
	for name, content := range files {
		path := filepath.Join(boot, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return "", err
		}
	}
	fs := filepath.Join(dir, "slot-"+c.label)
	if err := sized(fs, slotSectors*512); err != nil {
		return "", err
	}
	return fs, run("mke2fs", "-q", "-t", "ext4", "-d", root, "-m", "0", fs)
}

// makeInitrd is a cpio archive (newc) of one program, with what it needs to be heard.
func makeInitrd(label string, init []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	entry := func(name string, mode, major, minor int, content []byte) {
		head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			1, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0)
		raw := append([]byte(head), name...)
		raw = append(raw, 0)
		for len(raw)%4 != 0 {
			raw = append(raw, 0)
		}
		raw = append(raw, content...)
		for len(raw)%4 != 0 {
			raw = append(raw, 0)
		}
		_, _ = z.Write(raw)
	}
	entry("dev", 0o040755, 0, 0, nil)
	entry("dev/console", 0o020600, 5, 1, nil)
	entry("label", 0o100644, 0, 0, []byte(label))
	entry("init", 0o100755, 0, 0, init)
	entry("TRAILER!!!", 0, 0, 0, nil)
	err := z.Close()
	return out.Bytes(), err
}

// makeCard puts a card together: partition table, the sector with the slots' state, FAT, both slots.
func makeCard(path string, p parts, state []byte) error {
	if err := sized(path, cardSectors*512); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(partitionTable(), 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(state, stateSector*512); err != nil {
		return err
	}
	for from, at := range map[string]int64{p.fat: fatStart, p.slots[0]: slotStart, p.slots[1]: slotStart + slotSectors} {
		if err := run("dd", "if="+from, "of="+path, "bs=1M", fmt.Sprintf("seek=%d", at*512>>20), "conv=notrunc,sparse", "status=none"); err != nil {
			return err
		}
	}
	return nil
}

func partitionTable() []byte {
	mbr := make([]byte, 512)
	binary.LittleEndian.PutUint32(mbr[440:], diskID)
	for i, p := range []struct {
		kind          byte
		start, length uint32
	}{
		{0x0c, fatStart, fatSectors}, {0x83, slotStart, slotSectors}, {0x83, slotStart + slotSectors, slotSectors},
		{0x83, slotStart + 2*slotSectors, cardSectors - slotStart - 2*slotSectors},
	} {
		e := mbr[446+16*i:]
		if i == 0 {
			e[0] = 0x80 // u-boot looks first where the flag is
		}
		e[4] = p.kind
		binary.LittleEndian.PutUint32(e[8:], p.start)
		binary.LittleEndian.PutUint32(e[12:], p.length)
	}
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}
