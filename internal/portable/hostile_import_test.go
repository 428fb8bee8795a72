package portable_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"pibox/internal/portable"
	"pibox/internal/store"
)

// pieces is what a hostile file repeats.
type pieces struct {
	each func(i int) string
	n, i int
	rest string
}

func (p *pieces) Read(b []byte) (int, error) {
	for p.rest == "" {
		if p.i == p.n {
			return 0, io.EOF
		}
		p.rest = p.each(p.i)
		p.i++
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// look is called when everything before it was read, or nearly.
type look func()

func (f look) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Of what a file holds, the importer keeps what it has to know to the end of the account: names, and those only as long as they may be.
func TestHostileFilePinsNothing(t *testing.T) {
	junk := strings.Repeat("z", 60_000)
	jids := func() string {
		var b strings.Builder
		for i := range 300 {
			fmt.Fprintf(&b, "<affiliation jid='%d%s@x.example' affiliation='member'/>", i, strings.Repeat("ä", 500))
		}
		return b.String()
	}()
	const pubsub = "http://jabber.org/protocol/pubsub"
	for name, c := range map[string]struct {
		begin, end string
		n          int
		each       func(i int) string
	}{
		"items": {"<pubsub xmlns='" + pubsub + "'><items node='n'>", "</items></pubsub>", 400, func(i int) string {
			return fmt.Sprintf("<item id='%d' z='%s'><a xmlns='b'/></item>", i, junk)
		}},
		"nodes": {"<pubsub xmlns='" + pubsub + "'>", "</pubsub>", 200, func(i int) string {
			return fmt.Sprintf("<items node='%d' z='%s'><item id='1'><a xmlns='b'/></item></items>", i, junk)
		}},
		"contacts": {"<query xmlns='jabber:iq:roster'>", "</query>", 400, func(i int) string {
			return fmt.Sprintf("<item jid='d%d.example' z='%s'/>", i, junk)
		}},
		"blocks": {"<blocklist xmlns='urn:xmpp:blocking'>", "</blocklist>", 400, func(i int) string {
			return fmt.Sprintf("<item jid='d%d.example' z='%s'/>", i, junk)
		}},
		"requests": {"", "", 400, func(i int) string {
			return fmt.Sprintf("<presence xmlns='jabber:client' type='subscribe' from='d%d.example' z='%s'/>", i, strings.Repeat("z", 15_000))
		}},
		"waiting messages": {"<offline-messages>", "</offline-messages>", 400, func(i int) string {
			return message(fmt.Sprint(i), nurse, me, fmt.Sprintf("<stanza-id xmlns='urn:xmpp:sid:0' by='%s' id='%d%s'/>", me, i, junk))
		}},
		"others' parts in nodes": {"<pubsub xmlns='" + pubsub + "#owner'>", "</pubsub>", 60, func(i int) string {
			return fmt.Sprintf("<affiliations node='n%d'>%s</affiliations>", i, jids)
		}},
		"keys of devices": {"<pubsub xmlns='" + pubsub + "'>", "</pubsub>", 400, func(i int) string {
			return fmt.Sprintf("<items node='urn:xmpp:omemo:%d%s'><item id='1'><a xmlns='b'/></item></items>", i, junk)
		}},
		"losses": {"", "", 400, func(i int) string { return fmt.Sprintf("<a%d%s xmlns='urn:x'/>", i, junk) }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, t.TempDir())
			defer h.close()
			before, more := heap(), int64(0)
			file := io.MultiReader(strings.NewReader(head+c.begin), &pieces{each: c.each, n: c.n}, look(func() { more = heap() - before }), strings.NewReader(c.end+tail))
			results, err := h.load(file, nil)
			if err != nil || len(results) != 1 {
				t.Fatalf("%v, %d accounts", err, len(results))
			}
			if more > 8<<20 {
				t.Errorf("%d MiB are kept", more>>20)
			}
			if l := lost(results[0]); len(l) > 100_000 {
				t.Errorf("%d bytes of losses", len(l))
			}
		})
	}
}

// A file of as many accounts as it likes ends where no box has as many.
func TestMillionAccounts(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	for name, each := range map[string]func(i int) string{
		"elsewhere":  func(i int) string { return fmt.Sprintf("<user name='u%d'/>", i) },
		"no address": func(i int) string { return fmt.Sprintf("<user name='@%d'/>", i) },
		"long names": func(i int) string { return fmt.Sprintf("<user name='%d%s'/>", i, strings.Repeat("ä", 450)) },
	} {
		t.Run(name, func(t *testing.T) {
			file := func() io.Reader {
				return io.MultiReader(strings.NewReader("<server-data xmlns='urn:xmpp:pie:0'><host jid='elsewhere.example'>"), &pieces{each: each, n: 100_000},
					strings.NewReader("</host></server-data>"))
			}
			results, err := h.load(file(), nil)
			if err == nil || !strings.Contains(err.Error(), "too many accounts") || len(results) > 10_000 {
				t.Errorf("%d accounts, %v", len(results), err)
			}
			names, err := portable.Accounts(t.Context(), file())
			if err == nil || !strings.Contains(err.Error(), "too many accounts") || len(names) > 10_000 {
				t.Errorf("%d names, %v", len(names), err)
			}
		})
	}
}

// What a file says of times is taken where a box can keep it.
func TestHostileTimes(t *testing.T) {
	stamps := []string{
		"0001-01-01T00:00:00Z", "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1500-06-01T00:00:00Z", "1969-12-31T23:59:59Z", "2999-01-01T00:00:00Z", "x", "",
	}
	for _, at := range stamps {
		t.Run(at, func(t *testing.T) {
			h := newHome(t, t.TempDir())
			defer h.close()
			delay := "<delay xmlns='urn:xmpp:delay' from='capulet.example' stamp='" + at + "'/>"
			before := mallocs()
			r := h.take("<account xmlns='urn:pibox:portable:0' created='"+at+"' last='"+at+"' last-status='"+strings.Repeat("s", 50_000)+"'/>"+
				"<presence xmlns='jabber:client' type='subscribe' from='c@d'>"+delay+"</presence>"+
				"<offline-messages>"+message("1", nurse, me, delay)+"</offline-messages>"+
				"<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n' xmlns:p='urn:pibox:portable:0' p:created='"+at+"'><x xmlns='jabber:x:data'/></configure></pubsub>"+
				"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='1' xmlns:p='urn:pibox:portable:0' p:at='"+at+"'><a xmlns='b'/></item></items></pubsub>"+
				"<archive xmlns='urn:xmpp:pie:0#mam'>"+result("a", at, message("2", nurse, me, ""))+result("b", "2026-01-01T00:00:00Z", message("3", nurse, me, ""))+"</archive>",
				func(o *portable.ImportOptions) { o.MaxAge = 0 })
			if r.Refused != nil {
				t.Fatal(r.Refused)
			}
			l := h.read(juliet)
			sane := func(what string, at time.Time) {
				if at.After(time.Now()) || !at.IsZero() && at.Before(time.Unix(0, 0)) {
					t.Errorf("%s: %s", what, at)
				}
			}
			sane("created", l.Acc.Created)
			sane("last seen", l.Last.At)
			sane("request", l.Pending["c@d"].Received)
			sane("node", l.Nodes["n"].Created)
			for id, it := range l.Items {
				sane(id, it.At)
			}
			last := time.Time{}
			for _, m := range l.Log {
				sane(m.Stanza, m.At)
				if m.At.Before(last) {
					t.Errorf("%s is before %s", m.At, last)
				}
				last = m.At
			}
			if len(l.Log) != 3 || len(l.Items) != 1 || len(l.Pending) != 1 || len(l.Last.Status) > 4096 {
				t.Errorf("%+v", l)
			}
			if n := mallocs() - before; n > 100_000 {
				t.Errorf("%d allocations", n)
			}
			file, _ := h.export(juliet) // what was taken can be given on
			if len(file) == 0 {
				t.Error("no export")
			}
		})
	}
}

// What waits is looked for in an archive that holds everything at one moment; that ends.
// mallocs is a measure of work that does not depend on the machine.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func TestWaitingBesideManyAtOnce(t *testing.T) {
	h := newHome(t, t.TempDir())
	defer h.close()
	const stamp = "2020-01-01T00:00:00Z"
	delay := "<delay xmlns='urn:xmpp:delay' from='capulet.example' stamp='" + stamp + "'/>"
	file := io.MultiReader(strings.NewReader(head+"<archive xmlns='urn:xmpp:pie:0#mam'>"),
		&pieces{each: func(i int) string { return result(fmt.Sprint(i), stamp, message(fmt.Sprint("a", i), nurse, me, "")) }, n: 10_000},
		strings.NewReader("</archive><offline-messages>"),
		&pieces{each: func(i int) string { return message(fmt.Sprint("w", i), nurse, me, delay) }, n: 2000},
		strings.NewReader("</offline-messages>"+tail))
	before := mallocs()
	results, err := h.load(file, nil)
	if err != nil || results[0].Counts.Archived != 10_000 || results[0].Counts.Waiting != 2000 {
		t.Fatalf("%v %+v", err, results)
	}
	// Each with each would be 20,000,000 stanzas parsed.
	if n := mallocs() - before; n > 30_000_000 {
		t.Errorf("%d allocations", n)
	}
	h.update(func(tx *store.Tx) {
		if n := store.OwedCount(tx, me); n != 2000 {
			t.Errorf("%d are owed", n)
		}
	})
}
