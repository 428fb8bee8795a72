package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a server has used since it started.
type usage struct {
	cpu     time.Duration
	written float64 // bytes that it caused to be sent to the device
}

// usageOf is that of a process and its descendants.
func usageOf(pid int) (usage, error) {
	var u usage
	for _, p := range descendants(pid) {
		cpu, err := cpuTime(p)
		if err != nil {
			return u, err
		}
		written, err := writtenBytes(p)
		if err != nil {
			return u, err
		}
		u.cpu += cpu
		u.written += written
	}
	return u, nil
}

// descendants are a process, its children, and theirs.
func descendants(pid int) []int {
	all := []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range files {
		raw, _ := os.ReadFile(name)
		for _, word := range strings.Fields(string(raw)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, descendants(child)...)
			}
		}
	}
	return all
}

// cpuTime is what a process and all its threads, also those that have ended, have used: user and system.
func cpuTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	id := ^int32(pid)<<3 | 2 // the kernel's id of another process's CPU clock, MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// residentKB is what a process holds in memory (VmRSS), and of that what is no file's (RssAnon).
func residentKB(pid int) (all, anonymous float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	return field(raw, "VmRSS:"), field(raw, "RssAnon:"), nil
}

func writtenBytes(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	return field(raw, "write_bytes:"), nil
}

func field(raw []byte, name string) float64 {
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		if rest, ok := strings.CutPrefix(string(line), name); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v
		}
	}
	return 0
}

// countSyncs counts with strace how often a server asks for its data to be on the device while something is done; -1 where there is no strace.
func countSyncs(ctx context.Context, s server, do func() error) (float64, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return -1, nil
	}
	out := filepath.Join(s.folder(), "strace")
	_ = os.Remove(out)
	cmd := exec.CommandContext(ctx, "strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync,sync,syncfs", "-o", out, "-p", strconv.Itoa(s.pid()))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	wait(ctx, 500*time.Millisecond) // until it holds all threads
	err := do()
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // tells of the signal
	if err != nil {
		return 0, err
	}
	raw, err := os.ReadFile(out)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil // it may not look into other processes
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, "sync") && !strings.Contains(line, "resumed>") {
			n++
		}
	}
	return float64(n), err
}
