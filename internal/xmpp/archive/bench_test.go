package archive_test

import (
	"fmt"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/archive"
)

// Pages of 50 of a short archive and of a long one: the long one takes half a minute to make.
//
//	go test -run xxx -bench Page ./internal/xmpp/archive
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := long(b, n)
			b.Run("newest", func(b *testing.B) { x.pages(b, "<before/>", "", "") })
			b.Run("forward", func(b *testing.B) { x.pages(b, "", "after", "last") })
			b.Run("backward", func(b *testing.B) { x.pages(b, "<before/>", "before", "first") })
			b.Run("with", func(b *testing.B) {
				x.form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='with'><value>nurse@capulet.example</value></field></x>"
				x.pages(b, "<before/>", "before", "first")
				x.form = ""
			})
			b.Run("start", func(b *testing.B) {
				x.form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field><field var='start'><value>" + x.middle.Format(time.RFC3339Nano) + "</value></field></x>"
				x.pages(b, "", "after", "last")
				x.form = ""
			})
		})
	}
}

type longArchive struct {
	*box
	form   string
	middle time.Time
}

// long is an archive of n messages of Romeo's, beside those of others.
func long(b *testing.B, n int) *longArchive {
	x := &longArchive{box: newBox(b, archive.Options{})}
	people := []xmpp.JID{juliet.With("balcony"), tybalt.With("tomb"), xmpp.MustJID("nurse@capulet.example/x")}
	text := "But, soft! what light through yonder window breaks? It is the east, and Juliet is the sun."
	for i := 0; i < n; {
		x.update(func(tx *store.Tx) {
			for range min(1000, n/4) {
				from, to := people[i%len(people)], romeo
				if i%2 == 0 {
					from, to = romeo.With("orchard"), from
				}
				add(tx, x.r, from, to, text, store.Archived)
				i++
			}
		})
		if i >= n/2 && x.middle.IsZero() {
			x.middle = time.Now().UTC()
		}
	}
	return x
}

// pages asks for one page after the other, again from the first one when the last has come.
func (x *longArchive) pages(b *testing.B, first, next, from string) {
	rsm := first
	x.t = b
	for b.Loop() {
		got, reply := x.ask("set", "<query xmlns='urn:xmpp:mam:2'>"+x.form+"<set xmlns='http://jabber.org/protocol/rsm'><max>50</max>"+rsm+"</set></query>")
		if len(got) == 0 {
			b.Fatalf("an empty page: %s", reply.Raw)
		}
		fin := reply.Node().Child(archive.NS, "fin")
		if rsm = first; next != "" && fin.Attr("complete") == "false" {
			rsm = "<" + next + ">" + fin.Child(archive.NSRSM, "set").ChildText("", from) + "</" + next + ">"
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pages/s")
}
