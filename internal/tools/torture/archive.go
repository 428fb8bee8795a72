package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// offers is what the box has, by its own word.
type offers struct {
	known   bool
	archive bool // XEP-0313
	sm      bool // XEP-0198
}

// ask finds out what the box offers, and lets archives keep everything.
func (t *town) ask(ctx context.Context, c *testclient.Client) (err error) {
	t.offers.sm = c.SM()
	if t.offers.archive, err = c.Offers(ctx, c.Account(), nsArchive); err != nil {
		return err
	}
	t.offers.known = true
	return nil
}

// keepAll lets an archive keep everything.
func keepAll(ctx context.Context, c *testclient.Client) error {
	return c.Set(ctx, "", "<prefs xmlns='"+nsArchive+"' default='always'><always/><never/></prefs>")
}

// reading is one pass through an archive.
type reading struct {
	past    past     // up to where it was read
	until   string   // what was read before ends here; "": nothing was
	order   []string // ids of the messages behind that
	entries map[string][]string
	wrong   []string
}

func (r *reading) take(e testclient.Archived) {
	fresh := r.until == ""
	r.past = r.past.add(e)
	if !fresh {
		if e.ID == r.until {
			r.until = ""
		}
		return
	}
	id := originID(e.Message)
	if number(id) == 0 { // a mark
		return
	}
	if body := e.Message.ChildText(frame.NSClient, "body"); body != bodyOf(id) {
		r.wrong = append(r.wrong, fmt.Sprintf("message %s has become %q", id, body))
	}
	r.order = append(r.order, id)
	r.entries[id] = append(r.entries[id], e.ID)
}

func originID(n *frame.Node) string {
	if id := n.Child(nsStanzaID, "origin-id").Attr("id"); id != "" {
		return id
	}
	return n.Attr("id")
}

// checkArchive compares an archive with what was sent and came: what is new in it or, now and then, all of it.
func (t *town) checkArchive(ctx context.Context, c *testclient.Client, name string) error {
	known := t.m.past(name)
	r := reading{past: known, entries: map[string][]string{}}
	if t.whole && known.Last != "" {
		r.past, r.until = past{}, known.Last
	}
	for {
		page, err := c.Archive(ctx, testclient.ArchiveQuery{Set: "<max>100</max>" + after(r.past.Last)})
		if err != nil {
			return fmt.Errorf("the archive behind %q: %w", r.past.Last, err)
		}
		for _, e := range page.Messages {
			r.take(e)
			if t.whole && e.ID == known.Last && r.past != known {
				t.problem("%s's archive is not what it was: of %d entries up to %s it was sum %x, and of %d it is %x",
					name, known.Count, known.Last, known.Sum, r.past.Count, r.past.Sum)
			}
		}
		if page.Complete || len(page.Messages) == 0 {
			break
		}
	}
	if r.until != "" {
		t.problem("%s's archive has lost entry %s, the last that was in it", name, r.until)
	}
	for _, text := range r.wrong {
		t.problem("%s's archive: %s", name, text)
	}
	for _, err := range t.m.found(name, r.order, r.entries) {
		t.problem("%w", err)
	}
	t.m.read(name, r.past)
	return nil
}

func after(id string) string {
	if id == "" {
		return ""
	}
	return "<after>" + testclient.Escape(id) + "</after>"
}

// checkDelivered: what was acknowledged to others has come to name, who is there and had some time.
func (t *town) checkDelivered(ctx context.Context, name string) error {
	c := t.clients[name]
	if !t.offers.archive || !c.SM() {
		return nil
	}
	for began := time.Now(); time.Since(began) < patience/8; { // what was owed comes by pages
		if err := t.behind(ctx, c, ""); err != nil {
			return err
		}
		if len(t.m.missing(name)) == 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	t.problem("%s never got %d acknowledged messages: %s", name, len(t.m.missing(name)), strings.Join(t.m.missing(name), " "))
	t.m.forgotten(name)
	return nil
}
