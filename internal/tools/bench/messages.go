package main

import (
	"context"
	"slices"
	"time"

	"pibox/internal/testclient"
)

// relay is one-to-one messages between clients who are there; nothing is stored.
func relay(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(*testclient.Client) error {
		flow, late, cpu, err := converse(ctx, s, relayedBody)
		if err != nil {
			return err
		}
		f["relay_cpu_us"], f["relay_rate"] = flow.cpu, flow.rate
		f["paced_cpu_us"], f["latency_p50_ms"], f["latency_p99_ms"] = cpu, percentile(late, 50), percentile(late, 99)
		return nil
	})
}

// archived is one-to-one messages between clients who are there, kept in both archives.
func archived(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(c *testclient.Client) error {
		if err := offersArchive(ctx, c); err != nil {
			return err
		}
		flow, late, cpu, err := converse(ctx, s, archivedBody)
		if err != nil {
			return err
		}
		r, err := newReader(ctx, s, 2)
		if err != nil {
			return err
		}
		defer r.c.Cut()
		if err := r.whole(ctx); err != nil {
			return err
		}
		f["archived_cpu_us"], f["archived_rate"], f["archived_bulk_kb"] = flow.cpu, flow.rate, flow.written
		f["archived_paced_cpu_us"], f["archived_p50_ms"], f["archived_p99_ms"] = cpu, percentile(late, 50), percentile(late, 99)
		return nil
	})
}

// converse is messages as fast as they go, and then evenly: times and CPU time of each.
func converse(ctx context.Context, s server, body string) (fast flow, late []float64, cpu float64, err error) {
	all, cut, err := couples(ctx, s)
	if err != nil {
		return fast, nil, 0, err
	}
	defer cut()
	if _, err = flood(ctx, s, all, warmUp, body); err != nil { // buffers grow, caches fill
		return fast, nil, 0, err
	}
	if fast, err = flood(ctx, s, all, floodFor, body); err != nil {
		return fast, nil, 0, err
	}
	before, err := usageOf(s.pid())
	if err != nil {
		return fast, nil, 0, err
	}
	if late, err = paced(ctx, all, pacedFor, body); err != nil {
		return fast, nil, 0, err
	}
	after, err := usageOf(s.pid())
	return fast, late, us(after.cpu-before.cpu) / float64(len(late)), err
}

// isolatedMessages is what reaches the device for an archived message that nothing else is written with, and how often the server waits for the
// device because of it.
func isolatedMessages(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(c *testclient.Client) error {
		if err := offersArchive(ctx, c); err != nil {
			return err
		}
		p, err := newCouple(ctx, s, 0)
		if err != nil {
			return err
		}
		defer p.cut()
		each := func() error {
			if err := p.write(archivedBody); err != nil {
				return err
			}
			_, err := p.next(ctx, p.sent)
			return err
		}
		for range 5 { // files and pages are made
			if err := each(); err != nil {
				return err
			}
		}
		if err := oneByOne(ctx, s, f, "archived_isolated_kb", func(int) error { return each() }); err != nil {
			return err
		}
		const few = 20
		syncs, err := countSyncs(ctx, s, func() error {
			for range few {
				if err := each(); err != nil {
					return err
				}
				wait(ctx, 20*time.Millisecond)
			}
			return nil
		})
		if err == nil && syncs >= 0 {
			f["archived_syncs"] = syncs / few
		}
		return err
	})
}

func percentile(v []float64, p int) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, len(v)*p/100)]
}
