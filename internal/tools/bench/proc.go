package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

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

// writtenBytes is what a process caused to be sent to the device.
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
