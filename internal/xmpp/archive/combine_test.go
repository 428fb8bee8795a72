package archive_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
)

// entry is a message of romeo's archive as the model has it.
type entry struct {
	id       string
	from, to xmpp.JID
	at       time.Time
}

// ask is a query as the model understands it.
type ask struct {
	with              xmpp.JID
	start, end        time.Time
	afterID, beforeID string
	ids               []string
	after, before     string
	backwards, flip   bool
	max               int // -1: none
}

func (q ask) xml() string {
	x := xmpp.NewXMLNS("query", archive.NS).Attr("queryid", "q")
	form := xmpp.NewXMLNS("x", "jabber:x:data").Attr("type", "submit")
	field := func(name string, values ...string) {
		form.Open("field", "").Attr("var", name)
		for _, v := range values {
			form.Leaf("value", "", v)
		}
		form.Close()
	}
	field("FORM_TYPE", archive.NS)
	if !q.with.IsZero() {
		field("with", q.with.String())
	}
	for name, at := range map[string]time.Time{"start": q.start, "end": q.end} {
		if !at.IsZero() {
			field(name, at.Format(time.RFC3339Nano))
		}
	}
	for name, id := range map[string]string{"after-id": q.afterID, "before-id": q.beforeID} {
		if id != "" {
			field(name, id)
		}
	}
	if q.ids != nil {
		field("ids", q.ids...)
	}
	x.Raw(form.Bytes()).Open("set", archive.NSRSM)
	if q.max >= 0 {
		x.Leaf("max", "", fmt.Sprint(q.max))
	}
	if q.after != "" {
		x.Leaf("after", "", q.after)
	}
	if q.backwards {
		x.Leaf("before", "", q.before)
	}
	x.Close()
	if q.flip {
		x.Open("flip-page", "").Close()
	}
	return string(x.Bytes())
}

// of tells what the archive holds for a query: the page, in the order of the archive, and whether that is all.
func (q ask) of(all []entry) (page []entry, complete bool) {
	place := func(id string) int { return slices.IndexFunc(all, func(e entry) bool { return e.id == id }) }
	for i, e := range all {
		switch {
		case !q.with.IsZero() && !q.with.IsBare() && e.from != q.with && e.to != q.with:
		case q.with == romeo && (e.from.Bare() != romeo || e.to.Bare() != romeo):
		case q.with.IsBare() && !q.with.IsZero() && e.from.Bare() != q.with && e.to.Bare() != q.with:
		case !q.start.IsZero() && e.at.Before(q.start), !q.end.IsZero() && e.at.After(q.end):
		case q.ids != nil && !slices.Contains(q.ids, e.id):
		case q.afterID != "" && i <= place(q.afterID), q.after != "" && i <= place(q.after):
		case q.beforeID != "" && i >= place(q.beforeID), q.before != "" && i >= place(q.before):
		default:
			page = append(page, e)
		}
	}
	limit := q.max
	if limit < 0 {
		limit = 50
	}
	if len(page) <= limit {
		return page, true
	}
	if q.backwards {
		return page[len(page)-limit:], false
	}
	return page[:limit], false
}

// check asks and compares.
func (q ask) check(b *box, all []entry) {
	b.t.Helper()
	page, complete := q.of(all)
	got, reply := b.ask("set", q.xml())
	if reply.Type != "result" {
		b.t.Fatalf("%s\nis answered with %s", q.xml(), reply.Raw)
	}
	var ids []string
	for _, st := range got {
		ids = append(ids, st.Node().Child(archive.NS, "result").Attr("id"))
	}
	var want []string
	for _, e := range page {
		want = append(want, e.id)
	}
	sent := slices.Clone(want)
	if q.flip {
		slices.Reverse(sent)
	}
	if !slices.Equal(ids, sent) {
		b.t.Fatalf("%s\ngives\n%q instead of\n%q", q.xml(), ids, sent)
	}
	fin := reply.Node().Child(archive.NS, "fin")
	if fin.Attr("complete") != fmt.Sprint(complete) {
		b.t.Fatalf("%s\nends with %s", q.xml(), reply.Raw)
	}
	set := fin.Child(archive.NSRSM, "set")
	if len(want) > 0 && (set.ChildText("", "first") != want[0] || set.ChildText("", "last") != want[len(want)-1]) || len(want) == 0 && set.Child("", "first") != nil {
		b.t.Fatalf("%s\nends with %s, the page is %q", q.xml(), reply.Raw, want)
	}
}

// fill writes n messages of several conversations, and gives those of romeo's archive. Two have the same time.
func fill(b *box, n int) (all []entry) {
	parties := []struct{ from, to xmpp.JID }{
		{juliet.With("balcony"), romeo}, {romeo.With("orchard"), juliet}, {juliet.With("chamber"), romeo.With("orchard")}, {tybalt.With("tomb"), romeo},
		{tybalt.With("tomb"), juliet}, {romeo.With("orchard"), romeo}, {romeo.With("tablet"), tybalt}, {juliet.With("balcony"), tybalt},
	}
	for i := range n {
		p := parties[i*5%len(parties)]
		b.update(func(tx *store.Tx) {
			if i%7 == 6 { // waits, but is in nobody's archive
				store.AppendLog(tx, &store.Entry{Stanza: []byte("<message/>"), Owners: []store.Owner{{Account: romeo.String(), With: juliet.String(), Role: store.Owed}}})
			}
			add(tx, b.r, p.from, p.to, fmt.Sprint("message ", i), store.Archived|store.Owed)
		})
		if p.from.Bare() == romeo || p.to.Bare() == romeo {
			all = append(all, entry{from: p.from, to: p.to, at: time.Now().UTC()})
		}
		if i%2 == 1 {
			time.Sleep(time.Second) // of the bubble
		}
	}
	got, _ := b.ask("set", "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>250</max></set></query>")
	if len(got) != len(all) {
		b.t.Fatalf("the archive has %d messages instead of %d", len(got), len(all))
	}
	for i, st := range got {
		all[i].id = st.Node().Child(archive.NS, "result").Attr("id")
		if raw := string(st.Raw); !strings.Contains(raw, all[i].at.Format("15:04:05.000Z")) || !strings.Contains(raw, " from='"+all[i].from.String()+"'") {
			b.t.Fatalf("result %d is %s instead of %+v", i, raw, all[i])
		}
	}
	return all
}

// Every filter with every other one, both directions, flipped or not.
func TestCombinations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{})
		all := fill(b, 24)
		n := len(all)
		id := func(i int) string { return all[i].id }
		type rsm struct {
			after, before string
			backwards     bool
		}
		for _, with := range []xmpp.JID{{}, juliet, juliet.With("balcony"), tybalt, romeo, romeo.With("tablet")} {
			for _, start := range []time.Time{{}, all[3].at} {
				for _, end := range []time.Time{{}, all[n-4].at} {
					for _, afterID := range []string{"", id(2)} {
						for _, beforeID := range []string{"", id(n - 3)} {
							for _, ids := range [][]string{nil, {id(n - 5), id(1), id(5), id(6), id(5), id(9)}} {
								for _, page := range []rsm{{}, {after: id(4)}, {backwards: true}, {before: id(n - 6), backwards: true}, {after: id(3), before: id(n - 2), backwards: true}} {
									for _, most := range []int{-1, 0, 2} {
										for _, flip := range []bool{false, true} {
											ask{
												with: with, start: start, end: end, afterID: afterID, beforeID: beforeID, ids: ids,
												after: page.after, before: page.before, backwards: page.backwards, flip: flip, max: most,
											}.check(b, all)
										}
									}
								}
							}
						}
					}
				}
			}
		}
	})
}

// Times are compared to the millisecond that the store knows, whatever is asked for.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, archive.Options{})
		all := fill(b, 9)
		for _, e := range all {
			for _, d := range []time.Duration{-time.Hour, -time.Second, -time.Millisecond, -time.Nanosecond, 0, time.Nanosecond, time.Millisecond, time.Second, 100 * 365 * 24 * time.Hour} {
				at := e.at.Add(d)
				ask{start: at, max: -1}.check(b, all)
				ask{end: at, max: -1}.check(b, all)
				ask{start: at, end: at, max: -1}.check(b, all)
			}
		}
		ask{start: all[5].at, end: all[2].at, max: -1}.check(b, all)
		ask{start: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).Add(1), end: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), max: -1}.check(b, all)
	})
}
