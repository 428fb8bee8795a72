package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"pibox/internal/store"
)

const (
	longLen     = 1_000_000 // messages
	longPages   = 300       // read from each end
	longAtOnce  = 2000      // entries of one transaction
	longAccount = 2
)

// longArchive is pages with a million messages in both archives, written through internal/store: there a page must cost what it costs in a short one.
// It is pibox's alone.
func longArchive(ctx context.Context, s server, f figures) error {
	p, ok := s.(*piboxServer)
	if !ok {
		return nil
	}
	if err := p.reset(); err != nil {
		return err
	}
	began := time.Now()
	if err := fillArchive(ctx, p.box.Store()); err != nil {
		return err
	}
	f["long_fill_s"] = time.Since(began).Seconds()
	if info, err := os.Stat(p.box.Store()); err == nil {
		f["long_file_mb"] = float64(info.Size()) / (1 << 20)
	}
	began = time.Now()
	if err := p.launch(); err != nil {
		return err
	}
	defer p.stop()
	c, err := awaitLogin(ctx, p, 0)
	if err != nil {
		return err
	}
	defer c.Cut()
	f["long_start_ms"] = ms(time.Since(began))
	if err := offersArchive(ctx, c); err != nil {
		return err
	}
	r, err := newReader(ctx, p, longAccount)
	if err != nil {
		return err
	}
	defer r.c.Cut()
	if f["long_newest_ms"], err = r.newest(ctx); err != nil {
		return err
	}
	if f["long_pages_rate"], err = longWalk(ctx, r, false); err != nil {
		return err
	}
	f["long_pages_back_rate"], err = longWalk(ctx, r, true)
	return err
}

func longWalk(ctx context.Context, r reader, backwards bool) (float64, error) {
	began := time.Now()
	messages, n, err := r.walk(ctx, longPages, backwards)
	if err == nil && messages != longPages*pageLen {
		err = fmt.Errorf("%d messages on %d pages", messages, n)
	}
	return float64(n) / time.Since(began).Seconds(), err
}

// fillArchive writes a long conversation of two people.
func fillArchive(ctx context.Context, file string) error {
	st, err := store.Open(file, store.Options{})
	if err != nil {
		return err
	}
	from, to := user(longAccount-1)+"@"+domain, user(longAccount)+"@"+domain
	for n := 0; n < longLen && err == nil; {
		err = st.Update(func(tx *store.Tx) error {
			for range longAtOnce {
				n++
				store.AppendLog(tx, &store.Entry{
					Owners: []store.Owner{{Account: from, With: to, Role: store.Archived | store.ByOwner}, {Account: to, With: from, Role: store.Archived}},
					Stanza: fmt.Appendf(nil, "<message xmlns='jabber:client' type='chat' id='m%d' from='%s/r0' to='%s'>%s</message>", n, from, to, archivedBody),
				})
			}
			return nil
		})
		if err == nil {
			err = ctx.Err()
		}
	}
	return errors.Join(err, st.Close())
}
