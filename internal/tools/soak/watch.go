package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watch is the memory of a box over time.
type watch struct {
	mu sync.Mutex
	kB []int // RssAnon
}

func (w *watch) run(ctx context.Context, h *home) {
	for {
		pause(ctx, 10*time.Second)
		if ctx.Err() != nil {
			return
		}
		if kB := anonymous(h.process()); kB > 0 {
			w.mu.Lock()
			w.kB = append(w.kB, kB)
			w.mu.Unlock()
		}
	}
}

func median(list []int) int {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// print tells how the memory went. In the last quarter it is not to be more than in the second one, but for some.
func (w *watch) print(t *town, h *home) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kB) == 0 {
		return
	}
	n := len(w.kB)
	early, late := median(w.kB[n/4:n/2]), median(w.kB[n*3/4:])
	fmt.Printf("%s: RssAnon first %d kB, last %d kB, median %d kB, at most %d kB; median of the second quarter %d kB, of the last %d kB\n",
		h.Domain, w.kB[0], w.kB[n-1], median(w.kB), slices.Max(w.kB), early, late)
	if late > early*3/2+4096 {
		t.problem(nil, "%s: memory grew from %d kB to %d kB", h.Domain, early, late)
	}
}

func anonymous(pid int) (kB int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, ok := strings.Cut(string(raw), "RssAnon:"); ok {
		_, _ = fmt.Sscan(rest, &kB)
	}
	return kB
}

func openFiles(pid int) int {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(files)
}

// goroutines ends a box, and counts those that it had.
func (h *home) goroutines() int {
	had := h.stacks()
	h.Signal(syscall.SIGQUIT)
	<-h.Ended()
	h.Kill()
	return h.stacks() - had
}

var stack = regexp.MustCompile(`(?m)^goroutine \d+ `)

func (h *home) stacks() int {
	raw, _ := os.ReadFile(h.LogFile())
	return len(stack.FindAll(raw, -1))
}

// complaints are the lines of the log that nobody wants to see.
func (h *home) complaints() (lines []string) {
	raw, _ := os.ReadFile(h.LogFile())
	for line := range bytes.Lines(raw) {
		if bytes.Contains(line, []byte("level=ERROR")) || bytes.HasPrefix(line, []byte("panic:")) || bytes.HasPrefix(line, []byte("fatal error:")) {
			lines = append(lines, strings.TrimSpace(string(line)))
		}
	}
	return lines
}

// autopsy looks at a box that everybody has left, and at its database.
func (h *home) autopsy(ctx context.Context, t *town) error {
	h.watch.print(t, h)
	spare := 3 + 8*(len(t.homes)-1) // links between boxes
	files := openFiles(h.process())
	for began := time.Now(); files > h.before+spare && time.Since(began) < patience/2; files = openFiles(h.process()) {
		pause(ctx, 100*time.Millisecond)
	}
	if files > h.before+spare {
		t.problem(nil, "%s: %d open files when all had left, and %d before anybody came", h.Domain, files, h.before)
	}
	for _, line := range h.complaints() {
		t.problem(nil, "%s: log: %s", h.Domain, line)
	}
	after := h.goroutines()
	if err := h.up(ctx); err != nil {
		return err
	}
	fresh := h.goroutines()
	fmt.Printf("%s: open files: %d before anybody came, %d when all had left; goroutines: %d when all had left, %d after a start\n", h.Domain, h.before, files, after, fresh)
	if after > fresh+20 {
		t.problem(nil, "%s: %d goroutines when all had left, and %d in a box that was just started", h.Domain, after, fresh)
	}
	if out, err := exec.CommandContext(ctx, h.Binary, "check-store", h.Store()).CombinedOutput(); err != nil {
		t.problem(nil, "%s: the database is damaged: %v: %s", h.Domain, err, out)
	}
	if err := h.up(ctx); err != nil {
		return err
	}
	h.Stop()
	return nil
}
