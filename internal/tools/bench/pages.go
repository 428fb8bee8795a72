package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	nsArchive  = "urn:xmpp:mam:2"
	nsRSM      = "http://jabber.org/protocol/rsm"
	archiveLen = 1000 // messages
	pageLen    = 50
	pagesFor   = 3 * time.Second // at the least, and one whole archive
	newestOf   = 30
)

func offersArchive(ctx context.Context, c *testclient.Client) error {
	st, err := c.IQ(ctx, "get", c.Account(), "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	if err == nil {
		err = testclient.Refusal(st)
	}
	if err == nil && !strings.Contains(string(st.Raw), nsArchive) {
		err = fmt.Errorf("an archive is %w", errNotOffered)
	}
	return err
}

// reader reads an archive page by page, one query after the other.
type reader struct {
	c       *testclient.Client
	results chan string // ids within the archive
}

func newReader(ctx context.Context, s server, i int) (*reader, error) {
	r := &reader{results: make(chan string, 2*pageLen)}
	var err error
	r.c, err = login(ctx, s, i, func(cfg *testclient.Config) {
		cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
			if st.Name == "message" && st.HasChild(nsArchive, "result") {
				r.results <- st.Node().Child(nsArchive, "result").Attr("id")
			}
			return st.Name != "iq"
		}
	})
	return r, err
}

// page asks for a page and returns the ids of its messages, in order, and whether it is the last one.
func (r *reader) page(ctx context.Context, set string) (ids []string, complete bool, err error) {
	st, err := r.c.IQ(ctx, "set", "", fmt.Sprintf("<query xmlns='%s'><set xmlns='%s'><max>%d</max>%s</set></query>", nsArchive, nsRSM, pageLen, set))
	if err == nil {
		err = testclient.Refusal(st)
	}
	if err != nil {
		return nil, false, err
	}
	fin := st.Node().Child(nsArchive, "fin")
	rsm := fin.Child(nsRSM, "set")
	for { // RFC 6120 §10.1: they came before
		select {
		case id := <-r.results:
			ids = append(ids, id)
			continue
		default:
		}
		break
	}
	if len(ids) > 0 && (rsm.ChildText(nsRSM, "first") != ids[0] || rsm.ChildText(nsRSM, "last") != ids[len(ids)-1]) {
		return nil, false, fmt.Errorf("the page does not hold what it tells of: %s", st.Raw)
	}
	return ids, fin.Attr("complete") == "true" || fin.Attr("complete") == "1", nil
}

// walk reads pages, forwards from the oldest message or backwards from the newest, until the end or until there were so many.
func (r *reader) walk(ctx context.Context, most int, backwards bool) (messages, pages int, err error) {
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
func (r *reader) newest(ctx context.Context) (float64, error) {
	var took []float64
	for range newestOf {
		began := time.Now()
		if ids, _, err := r.page(ctx, "<before/>"); err != nil || len(ids) != pageLen {
			return 0, errors.Join(err, fmt.Errorf("the newest page has %d messages", len(ids)))
		}
		took = append(took, ms(time.Since(began)))
	}
	return median(took), nil
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
