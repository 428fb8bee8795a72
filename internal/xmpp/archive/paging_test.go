package archive_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
)

func seedFlag() *uint64 { return flag.Uint64("seed", 0, "of the random tests; 0: each run another") }

var seed = seedFlag()

func random(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("-seed=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// world keeps beside a box what each archive has to hold: the model.
type world struct {
	*box
	rnd   *rand.Rand
	texts []said // of romeo's archive
	n     int
}

type said struct {
	with xmpp.JID // bare
	text string
}

func people() []xmpp.JID {
	return []xmpp.JID{romeo.With("orchard"), tybalt.With("tomb"), juliet.With("balcony"), juliet.With("chamber"), xmpp.MustJID("nurse@capulet.example/x")}
}

// say appends messages between random people, of random lengths.
func (w *world) say(n int) {
	w.update(func(tx *store.Tx) {
		for range n {
			p := people()
			from, to := p[w.rnd.IntN(len(p))], p[w.rnd.IntN(len(p))]
			w.n++
			text := fmt.Sprint("message ", w.n, " ", strings.Repeat("x", 1<<w.rnd.IntN(11)))
			role := store.Archived | store.Owed
			if w.rnd.IntN(8) == 0 {
				role = store.Owed
			}
			if from.Domain != romeo.Domain && to.Domain != romeo.Domain {
				continue
			}
			add(tx, w.r, from, to, text, role)
			switch {
			case from.Bare() == romeo:
				w.texts = append(w.texts, said{to.Bare(), text})
			case to.Bare() == romeo && role&store.Archived != 0:
				w.texts = append(w.texts, said{from.Bare(), text})
			}
		}
	})
}

func (w *world) has(with xmpp.JID) (texts []string) {
	for _, s := range w.texts {
		if with.IsZero() || s.with == with {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// page asks for a page of random size and gives its texts, in the order of the archive.
func (w *world) page(with xmpp.JID, rsm string) (texts []string, first, last string, complete bool) {
	q, flip := "<query xmlns='urn:xmpp:mam:2'>", w.rnd.IntN(2) == 0
	if !with.IsZero() {
		q += "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>" + with.String() + "</value></field></x>"
	}
	size := 1 + w.rnd.IntN(30)
	q += fmt.Sprintf("<set xmlns='http://jabber.org/protocol/rsm'><max>%d</max>%s</set>", size, rsm)
	if flip {
		q += "<flip-page/>"
	}
	got, reply := w.ask("set", q+"</query>")
	if reply.Type != "result" || len(got) > size {
		w.t.Fatalf("%s: %d results and %s", q, len(got), reply.Raw)
	}
	for _, st := range got {
		m := st.Node().Child(archive.NS, "result").Child("", "forwarded").Child(xmpp.NSClient, "message")
		texts = append(texts, m.ChildText(xmpp.NSClient, "body"))
	}
	if flip {
		slices.Reverse(texts)
	}
	fin := reply.Node().Child(archive.NS, "fin")
	set := fin.Child(archive.NSRSM, "set")
	return texts, set.ChildText("", "first"), set.ChildText("", "last"), fin.Attr("complete") == "true"
}

// Pages of any size, forward or backward, give each message of the archive once and in order, and nothing else, while others write.
func TestPagingWhileOthersWrite(t *testing.T) {
	rnd := random(t)
	for range 12 {
		w := &world{box: newBox(t, archive.Options{PageBytes: 4096 << rnd.IntN(8)}), rnd: rnd}
		w.say(rnd.IntN(300))
		for _, with := range []xmpp.JID{{}, juliet, tybalt, romeo, xmpp.MustJID("friar@capulet.example")} {
			w.forward(with)
			w.backward(with)
		}
	}
}

func (w *world) forward(with xmpp.JID) {
	var all []string
	rsm := ""
	for {
		texts, _, last, complete := w.page(with, rsm)
		all = append(all, texts...)
		if complete {
			break
		}
		if len(texts) == 0 {
			w.t.Fatal("an empty page that is not the last one")
		}
		rsm = "<after>" + last + "</after>"
		w.say(w.rnd.IntN(4))
	}
	if want := w.has(with); !slices.Equal(all, want) {
		w.t.Fatalf("forward with %s: %d messages instead of %d", with, len(all), len(want))
	}
}

func (w *world) backward(with xmpp.JID) {
	var all []string
	rsm, want := "<before/>", w.has(with)
	for {
		texts, first, _, complete := w.page(with, rsm)
		all = append(slices.Clone(texts), all...)
		if complete {
			break
		}
		if len(texts) == 0 {
			w.t.Fatal("an empty page that is not the last one")
		}
		rsm = "<before>" + first + "</before>"
		w.say(w.rnd.IntN(4))
	}
	if !slices.Equal(all, want) {
		w.t.Fatalf("backward with %s: %d messages instead of %d", with, len(all), len(want))
	}
}

// The same with writers that really run beside the reader.
func TestPagingBesideWriters(t *testing.T) {
	b := newBox(t, archive.Options{})
	const each = 150
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			for n := range each {
				if err := b.st.Update(func(tx *store.Tx) error {
					add(tx, b.r, juliet.With(fmt.Sprint("w", i)), romeo, fmt.Sprint(n), store.Archived)
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next, rsm := map[string]int{}, ""
	w := &world{box: b, rnd: random(t)}
	for got := 0; got < 2*each; {
		q := "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>20</max>" + rsm + "</set></query>"
		page, reply := w.ask("set", q)
		for _, st := range page {
			m := st.Node().Child(archive.NS, "result").Child("", "forwarded").Child(xmpp.NSClient, "message")
			if from := m.Attr("from"); m.ChildText(xmpp.NSClient, "body") != fmt.Sprint(next[from]) {
				t.Fatalf("%s: %s instead of %d", from, m.ChildText(xmpp.NSClient, "body"), next[from])
			} else {
				next[from]++
			}
		}
		if got += len(page); len(page) > 0 {
			rsm = "<after>" + reply.Node().Child(archive.NS, "fin").Child(archive.NSRSM, "set").ChildText("", "last") + "</after>"
		}
	}
	wg.Wait()
}

// A page ends where its bytes do, and goes on there; one message that is longer is a page of its own.
func TestPageBytes(t *testing.T) {
	b := newBox(t, archive.Options{PageBytes: 20 << 10})
	b.update(func(tx *store.Tx) {
		for i, size := range []int{1, 30 << 10, 1, 8 << 10, 8 << 10, 8 << 10} {
			add(tx, b.r, juliet, romeo, strings.Repeat(string(rune('a'+i)), size), store.Archived)
		}
	})
	w := &world{box: b}
	pages := func(room int) (pages []string) {
		b.out.room = room
		rsm := ""
		for complete := false; !complete; {
			got, reply := w.ask("set", "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>"+rsm+"</set></query>")
			page, size := "", 0
			for _, st := range got {
				m := st.Node().Child(archive.NS, "result").Child("", "forwarded").Child(xmpp.NSClient, "message")
				page += m.ChildText(xmpp.NSClient, "body")[:1]
				size += len(st.Raw)
			}
			if len(got) > 1 && size > min(room/2, 20<<10) {
				t.Errorf("a page has %d bytes", size)
			}
			fin := reply.Node().Child(archive.NS, "fin")
			pages, complete = append(pages, page), fin.Attr("complete") == "true"
			rsm = "<after>" + fin.Child(archive.NSRSM, "set").ChildText("", "last") + "</after>"
		}
		return pages
	}
	if have, want := pages(1<<20), []string{"a", "b", "cde", "f"}; !slices.Equal(have, want) {
		t.Errorf("the pages are %q instead of %q", have, want)
	}
	// What the connection can still queue bounds it, too.
	if have, want := pages(32<<10), []string{"a", "b", "cd", "e", "f"}; !slices.Equal(have, want) {
		t.Errorf("with less room the pages are %q instead of %q", have, want)
	}
	b.out.room = 31 << 10
	for _, q := range []string{"", "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>juliet@capulet.example/x</value></field></x>"} {
		if got, reply := b.ask("set", "<query xmlns='urn:xmpp:mam:2'>"+q+"</query>"); len(got) > 0 || !strings.Contains(string(reply.Raw), "resource-constraint") {
			t.Errorf("without room: %d results, %s", len(got), reply.Raw)
		}
	}
}

// A session that takes no more gets no more: neither a result nor an answer that says that the page is whole.
func TestSessionThatEnds(t *testing.T) {
	b := newBox(t, archive.Options{})
	b.update(func(tx *store.Tx) {
		for i := range 5 {
			add(tx, b.r, juliet, romeo, fmt.Sprint(i), store.Archived)
		}
	})
	b.out.full = 3
	b.send("<iq type='set' id='x'><query xmlns='urn:xmpp:mam:2'/></iq>")
	if got := b.out.take(); len(got) != 3 || got[2].Kind != xmpp.Message {
		t.Errorf("%d stanzas", len(got))
	}
}
