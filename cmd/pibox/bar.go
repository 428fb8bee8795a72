package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// bar shows on a terminal how far something is; elsewhere it only counts.
type bar struct {
	a     *app
	what  string
	total int64 // about; 0: not known
	done  int64
	shown bool
	began time.Time
	last  time.Time
}

func (a *app) bar(what string, total int64) *bar {
	f, ok := a.err.(*os.File)
	now := a.now()
	return &bar{a: a, what: what, total: total, shown: ok && !a.json && term.IsTerminal(int(f.Fd())), began: now}
}

const barWidth = 24

// Write implements io.Writer: it counts.
func (b *bar) Write(p []byte) (int, error) {
	b.done += int64(len(p))
	if now := b.a.now(); b.shown && now.Sub(b.last) > time.Second/5 {
		b.last = now
		fmt.Fprint(b.a.err, "\r"+b.line(now)+"\x1b[K")
	}
	return len(p), nil
}

// line is the bar as it is now.
func (b *bar) line(now time.Time) string {
	speed := ""
	if d := now.Sub(b.began); d > time.Second {
		speed = ", " + size(int64(float64(b.done)/d.Seconds())) + "/s"
	}
	if b.total <= 0 {
		return fmt.Sprintf("%s: %s%s", b.what, size(b.done), speed)
	}
	part := min(1, float64(b.done)/float64(b.total))
	full := int(part * barWidth)
	return fmt.Sprintf("%s [%s%s] %3.0f %%, %s%s", b.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*part, size(b.done), speed)
}

// end removes it.
func (b *bar) end() {
	if b.shown && !b.last.IsZero() {
		fmt.Fprint(b.a.err, "\r\x1b[K")
	}
}
