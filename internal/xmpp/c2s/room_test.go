package c2s

import (
	"strings"
	"testing"

	"pibox/internal/xmpp"
)

// Room is what Deliver still takes.
func TestRoom(t *testing.T) {
	const limit, kept = 10_000, 40_000
	for _, c := range []struct {
		name  string
		sm    *unacked
		limit int
	}{{"without stream management", nil, limit}, {"with it", &unacked{}, kept}} {
		t.Run(c.name, func(t *testing.T) {
			l := &link{out: &outbox{shared: &outboxConfig{limit: limit, kept: kept}, held: true, sm: c.sm}}
			if n := l.Room(); n != c.limit {
				t.Errorf("%d bytes at first", n)
			}
			st := xmpp.Make([]byte("<message><body>" + strings.Repeat("x", 1000) + "</body></message>"))
			if c.sm != nil { // what is not acknowledged counts
				c.sm.add(st, item{st: st}.cost())
			}
			for one := (item{st: st}).cost(); l.Room() >= one; {
				if l.out.put(st) != taken {
					t.Fatalf("refused with room for %d bytes", l.Room())
				}
			}
			if l.out.put(st) == taken {
				t.Errorf("taken with room for %d bytes", l.Room())
			}
		})
	}
}
