package s2s

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// offers stores a message for another server, as far as its sender may, and tells whether he did.
func (b *box) offers(from, to, id string) bool {
	b.net.t.Helper()
	st := message(from, to, id)
	err := b.router.Update(func(tx *store.Tx, out *xmpp.Out) error {
		if err := out.MayOwe(st); err != nil {
			return err
		}
		seq := store.AppendLog(tx, &store.Entry{Remote: true, Stanza: st.Raw})
		out.Owe(st, seq)
		out.After(func() { out.Emit(st.Stored(seq)) })
		return nil
	})
	var se *xmpp.StanzaError
	if err != nil && (!errors.As(err, &se) || se.Condition != stanza.ResourceConstraint || se.Type != stanza.Wait) {
		b.net.t.Errorf("%s is refused with %v", id, err)
	}
	return err == nil
}

// offered is how many more there is room for.
func (b *box) offered(from, to string) (n int) {
	b.net.t.Helper()
	for n < 100 && b.offers(from, to, fmt.Sprintf("m%d", n)) {
		n++
	}
	return n
}

func (b *box) nothingDue() {
	b.net.t.Helper()
	b.locked(func() {
		if len(b.dues) != 0 {
			b.net.t.Errorf("still due: %v", b.dues)
		}
		for p, l := range b.links {
			if len(l.debt.dues) != 0 {
				b.net.t.Errorf("still due for %v: %v", p, l.debt.dues)
			}
		}
	})
}

// TestFloodOfOthers: what a member has waiting for other servers is bounded, all of them together, across restarts, and also where it is too much for
// memory. He has the room again when they took it, or when it came back.
func TestFloodOfOthers(t *testing.T) {
	const juliet, nurse = "juliet@capulet.example/balcony", "nurse@capulet.example/hall"
	const romeo, paris = "romeo@montague.example", "paris@verona.example"
	size := dueSize(message(juliet, romeo, "m1"))
	for name, memory := range map[string]func(*Options){
		"in memory":  func(*Options) {},
		"in the log": func(o *Options) { o.queueStanzas = 3 },
	} {
		limits := func(o *Options) { o.DurableBytes = 10*size + size/2 }
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				m := n.box("montague.example verona.example")
				defer m.stop()
				c := n.box("capulet.example", limits, memory)
				defer func() { c.stop() }()
				n.setCut(true)
				for i := range 4 {
					if !c.offers(juliet, paris, fmt.Sprint("p", i)) {
						t.Error("refused too early")
					}
				}
				if n := c.offered(juliet, romeo); n != 6 {
					t.Errorf("%d more", n)
				}
				if c.offers("juliet@capulet.example/garden", "x@far.example", "x") {
					t.Error("another resource, or server, helps")
				}
				if !c.offers(nurse, romeo, "n") {
					t.Error("others are refused, too")
				}
				c = c.restart(limits, memory)
				if n := c.offered(juliet, romeo); n != 0 {
					t.Errorf("%d more after a restart", n)
				}
				n.setCut(false)
				time.Sleep(2 * backoffMax)
				c.owing()
				c.nothingDue()
				synctest.Wait()
				if got := len(m.take()); got != 11 {
					t.Errorf("%d came", got)
				}
				n.setCut(true)
				n.cutAll()
				if n := c.offered(juliet, romeo); n != 10 {
					t.Errorf("%d after all arrived", n)
				}
				time.Sleep(5 * 24 * time.Hour)
				synctest.Wait()
				if got := len(c.take()); got != 10 {
					t.Errorf("%d came back", got)
				}
				c.nothingDue()
				// What is taken out of the log does not count for ever.
				c.offered(juliet, romeo)
				if err := c.router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
					for seq := range store.LogRemote(tx, 0) {
						store.ForgetRemote(tx, seq)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				n.setCut(false)
				time.Sleep(time.Hour)
				c.nothingDue()
			})
		})
	}
}
