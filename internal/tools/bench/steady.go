package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"pibox/internal/testclient"
)

const (
	steadySample = 5 * time.Second
	steadyTold   = time.Minute
)

// steady is memory under an even load: archived messages, and clients that log in, read the newest page of their archive and go. It tells RssAnon as it
// goes, and how it moves after the first fifth of the time.
func steady(ctx context.Context, s server, f figures, d time.Duration) error {
	return on(ctx, s, func(c *testclient.Client) error {
		if err := offersArchive(ctx, c); err != nil {
			return err
		}
		all, cut, err := couples(ctx, s)
		if err != nil {
			return err
		}
		defer cut()
		began := time.Now()
		ctx, cancel := context.WithDeadline(ctx, began.Add(d+d/10+time.Minute))
		defer cancel()
		visits := make(chan error, 1)
		go func() { visits <- visit(ctx, s, began.Add(d)) }()
		samples := make(chan []sample, 1)
		go func() { samples <- watchMemory(ctx, s, began, d) }()
		var late []float64
		for left := d; left > 0 && err == nil; left -= steadyTold {
			var some []float64
			some, err = paced(ctx, all, min(left, steadyTold), archivedBody)
			late = append(late, some...)
		}
		if err != nil {
			cancel()
		}
		err = errors.Join(err, <-visits)
		steadyFigures(<-samples, late, d, f)
		return err
	})
}

// visit has somebody log in, read and go, each second.
func visit(ctx context.Context, s server, until time.Time) error {
	for i := 0; time.Now().Before(until); i++ {
		r, err := newReader(ctx, s, users+i%users) // not with a resource of a couple
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		if err = appear(ctx, r.c); err == nil {
			_, _, err = r.page(ctx, "<before/>")
		}
		r.c.Close(ctx)
		if err != nil {
			return err
		}
		wait(ctx, time.Second)
	}
	return nil
}

type sample struct{ hours, mb float64 }

func watchMemory(ctx context.Context, s server, began time.Time, d time.Duration) (all []sample) {
	told := time.Duration(0)
	for {
		wait(ctx, steadySample)
		at := time.Since(began)
		_, anonymous, err := residentKB(s.pid())
		if err != nil || at > d || ctx.Err() != nil {
			return all
		}
		all = append(all, sample{at.Hours(), anonymous / 1024})
		if at-told >= steadyTold {
			told = at
			fmt.Fprintf(os.Stderr, "%s after %s: RssAnon %.1f MB\n", s.name(), at.Round(time.Second), anonymous/1024)
		}
	}
}

func steadyFigures(all []sample, late []float64, d time.Duration, f figures) {
	if len(all) < 10 || len(late) == 0 {
		return
	}
	rest := all[len(all)/5:]
	var x, y, xx, xy float64
	for _, p := range rest {
		x, y, xx, xy = x+p.hours, y+p.mb, xx+p.hours*p.hours, xy+p.hours*p.mb
	}
	n := float64(len(rest))
	mb := func(list []sample) (out []float64) {
		for _, p := range list {
			out = append(out, p.mb)
		}
		return out
	}
	f["steady_minutes"] = d.Minutes()
	f["steady_first_mb"], f["steady_last_mb"] = median(mb(rest[:len(rest)/4])), median(mb(rest[len(rest)*3/4:]))
	f["steady_most_mb"] = slices.Max(mb(all))
	f["steady_growth_mb_h"] = (n*xy - x*y) / (n*xx - x*x)
	f["steady_p99_ms"] = percentile(late, 99)
}
