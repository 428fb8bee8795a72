package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"pibox/internal/slot"
)

// osRelease is where a system says which one it is (docs/updates.md).
const osRelease = "/usr/lib/os-release"

var releaseLine = regexp.MustCompile(`(?m)^PIBOX_RELEASE=(\d+)$`)

// updateFile makes an update to a newer system, which is the same one but for its number.
func (t *torture) updateFile(ctx context.Context) (string, error) {
	file := filepath.Join(t.dir, "new.update")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	root, text := filepath.Join(t.dir, "root.ext4"), filepath.Join(t.dir, "os-release")
	if err := errors.Join(
		run(ctx, "cp", "--sparse=always", t.root, root),
		run(ctx, "debugfs", "-R", "dump "+osRelease+" "+text, root)); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(text)
	if err != nil {
		return "", err
	}
	m := releaseLine.FindSubmatch(raw)
	if m == nil {
		return "", fmt.Errorf("%s has no PIBOX_RELEASE", t.root)
	}
	now, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return "", err
	}
	next := strconv.FormatInt(now+1, 10)
	if err := os.WriteFile(text, releaseLine.ReplaceAll(raw, []byte("PIBOX_RELEASE="+next)), 0o644); err != nil {
		return "", err
	}
	return file, errors.Join(
		run(ctx, "debugfs", "-w", "-R", "rm "+osRelease, root),
		run(ctx, "debugfs", "-w", "-R", "write "+text+" "+osRelease, root),
		run(ctx, t.pibox, "update", "make", "--key", t.key, "--release", next, "--version-name", "next", root, file),
		os.Remove(root))
}

// confirmed tells, from the card, that slot B is the good one, and nothing is tried any more.
func (c card) confirmed() error {
	f, err := os.Open(c.file)
	if err != nil {
		return err
	}
	defer f.Close()
	sector := make([]byte, slot.Size)
	if _, err := io.ReadFull(io.NewSectionReader(f, slot.Sector*slot.Size, slot.Size), sector); err != nil {
		return err
	}
	s, err := slot.Decode(sector)
	if err != nil {
		return err
	}
	if s.Good != slot.B || s.Trial != slot.None {
		return fmt.Errorf("the slots are %+v", s)
	}
	return nil
}
