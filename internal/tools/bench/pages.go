package main

import (
	"context"
	"fmt"
	"time"

	"pibox/internal/testclient"
)

const (
	archiveLen = 1000 // messages
	pageLen    = 50
	pagesFor   = 3 * time.Second // at the least, and one whole archive
	newestOf   = 30
)

func offersArchive(ctx context.Context, c *testclient.Client) error {
	offered, err := c.Offers(ctx, c.Account(), testclient.NSArchive)
	if err == nil && !offered {
		err = fmt.Errorf("an archive is %w", errNotOffered)
	}
	return err
}

// reader reads an archive page by page, one query after the other.
type reader struct{ c *testclient.Client }

func newReader(ctx context.Context, s server, i int) (reader, error) {
	c, err := login(ctx, s, i, quiet)
	return reader{c}, err
}

// page asks for a page and returns the ids of its messages, in order, and whether it is the last one.
func (r reader) page(ctx context.Context, set string) (ids []string, complete bool, err error) {
	page, err := r.c.Archive(ctx, testclient.ArchiveQuery{Set: fmt.Sprintf("<max>%d</max>%s", pageLen, set)})
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	if err == nil && len(ids) > 0 && (page.First != ids[0] || page.Last != ids[len(ids)-1]) {
		err = fmt.Errorf("the page tells of %s to %s and holds %s to %s", page.First, page.Last, ids[0], ids[len(ids)-1])
	}
	return ids, page.Complete, err
}

// walk reads pages, forwards from the oldest message or backwards from the newest, until the end or until there were so many.
func (r reader) walk(ctx context.Context, most int, backwards bool) (messages, pages int, err error) {
	set := ""
	if backwards {
		set = "<before/>"
	}
	for pages < most {
		ids, complete, err := r.page(ctx, set)
		if err != nil {
			return 0, 0, err
		}
		messages, pages = messages+len(ids), pages+1
		if complete || len(ids) == 0 {
			break
		}
		set = "<after>" + testclient.Escape(ids[len(ids)-1]) + "</after>"
		if backwards {
			set = "<before>" + testclient.Escape(ids[0]) + "</before>"
		}
	}
	return messages, pages, nil
}

// newest is how long the newest page takes, in the median, in ms.
func (r reader) newest(ctx context.Context) (float64, error) {
	var took []float64
	for range newestOf {
		began := time.Now()
		if err := r.whole(ctx); err != nil {
			return 0, err
		}
		took = append(took, ms(time.Since(began)))
	}
	return median(took), nil
}

// whole reads the newest page, which has to be a whole one.
func (r reader) whole(ctx context.Context) error {
	ids, _, err := r.page(ctx, "<before/>")
	if err == nil && len(ids) != pageLen {
		err = fmt.Errorf("the newest page of the archive has %d messages", len(ids))
	}
	return err
}

// pages is reading an archive of a thousand messages.
func pages(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(c *testclient.Client) error {
		if err := offersArchive(ctx, c); err != nil {
			return err
		}
		p, err := newCouple(ctx, s, 0)
		if err != nil {
			return err
		}
		defer p.cut()
		if err := p.streamSome(ctx, archiveLen, archivedBody); err != nil {
			return err
		}
		r, err := newReader(ctx, s, 2) // the one who was written to
		if err != nil {
			return err
		}
		defer r.c.Cut()
		before, err := usageOf(s.pid())
		if err != nil {
			return err
		}
		began, total := time.Now(), 0
		for walks := 0; walks == 0 || time.Since(began) < pagesFor; walks++ {
			messages, n, err := r.walk(ctx, archiveLen, false)
			if err != nil {
				return err
			}
			if messages != archiveLen {
				return fmt.Errorf("the archive has %d messages, not %d", messages, archiveLen)
			}
			total += n
		}
		took := time.Since(began)
		after, err := usageOf(s.pid())
		if err != nil {
			return err
		}
		f["pages_rate"], f["pages_cpu_us"] = float64(total)/took.Seconds(), us(after.cpu-before.cpu)/float64(total)
		f["newest_ms"], err = r.newest(ctx)
		return err
	})
}

// streamSome sends a number of messages with a window, and waits until all have come.
func (p *couple) streamSome(ctx context.Context, n int, body string) error {
	for first, got := p.sent, p.sent; got < first+n; {
		if p.sent < first+n && p.sent-got < window {
			if err := p.write(body); err != nil {
				return err
			}
			continue
		}
		got++
		if _, err := p.next(ctx, got); err != nil {
			return err
		}
	}
	return nil
}
