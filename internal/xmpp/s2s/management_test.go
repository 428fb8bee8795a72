package s2s

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"github.com/miekg/dns"
)

// TestTowardsTheOpener: what goes back on a stream that the other side opened waits for that side to resume it.
func TestTowardsTheOpener(t *testing.T) {
	for _, tt := range []struct {
		name           string
		lostThere      bool
		resumes        bool
		again, return_ bool
	}{
		{name: "messages lost, resumed", lostThere: true, resumes: true, again: true},
		{name: "acknowledgements lost, resumed", resumes: true},
		{name: "messages lost, not resumed", lostThere: true, again: true},
		{name: "acknowledgements lost, not resumed", again: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				m := n.box("montague.example")
				defer m.stop()
				c := n.box("capulet.example")
				defer func() { c.stop() }()
				c.says("juliet@capulet.example", "romeo@montague.example", "hello")
				m.hears("hello by certificate")
				n.freeze(m, tt.lostThere)
				m.owes("romeo@montague.example", "juliet@capulet.example", "m1", "m2")
				if tt.lostThere {
					c.hears()
				} else {
					c.hears(once(1, 2)...)
				}
				if tt.resumes {
					n.cutAll()
				} else {
					c = c.restart()
				}
				start := time.Now()
				m.owes("romeo@montague.example", "juliet@capulet.example", "m3")
				time.Sleep(holdTime + 2*time.Second)
				if tt.again {
					c.hears(once(1, 3)...)
				} else {
					c.hears("m3 by certificate")
				}
				time.Sleep(cursorDelay)
				m.owing()
				m.hears()
				m.locked(func() {
					if n := len(m.streams); n != 1 {
						t.Errorf("%d streams after %v", n, time.Since(start))
					}
				})
			})
		})
	}
}

// TestTowardsAnOpenerThatIsAlone: what was lost with the opener's stream goes to it soon, also where nobody has anything more to say.
func TestTowardsAnOpenerThatIsAlone(t *testing.T) {
	for _, away := range []time.Duration{0, time.Second, time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				m := n.box("montague.example")
				defer m.stop()
				c := n.box("capulet.example")
				defer func() { c.stop() }()
				c.says("juliet@capulet.example", "romeo@montague.example", "hello")
				m.hears("hello by certificate")
				n.freeze(m, true)
				m.owes("romeo@montague.example", "juliet@capulet.example", "m1", "m2")
				c.hears()
				n.setCut(true)
				c = c.restart()
				time.Sleep(away)
				n.setCut(false)
				time.Sleep(max(away, holdTime) + 2*time.Second) // the back-off doubles
				c.hears(once(1, 2)...)
				time.Sleep(cursorDelay)
				m.owing()
			})
		})
	}
}

// TestShareOfDetached: a server that loses a great many streams does not push out those that others may resume.
func TestShareOfDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newNet(t).box("capulet.example")
		defer c.stop()
		lose := func(remote, id string) {
			m := &management{id: id, counts: true, pair: pair{"capulet.example", remote}}
			c.locked(func() {
				c.resumable[id] = m
				c.keep(m, false)
			})
			time.Sleep(time.Millisecond)
		}
		there := func(id string) (is bool) {
			c.locked(func() { is = c.resumable[id] != nil })
			return is
		}
		lose("montague.example", "m1")
		lose("montague.example", "m2")
		for i := range 2 * maxDetached {
			lose("tybalt.example", fmt.Sprint("t", i))
		}
		last := 2*maxDetached - 1
		if !there("m1") || !there("m2") || !there(fmt.Sprint("t", last)) || there(fmt.Sprint("t", last-detachedShare)) {
			t.Errorf("%d are left", len(c.resumable))
		}
		// Many servers with as much as they may have: those give way that have more than others.
		for i := range 2 * maxDetached {
			lose(fmt.Sprintf("n%d.example", i/detachedShare), fmt.Sprint("n", i))
		}
		c.locked(func() {
			if n := len(c.resumable); n != maxDetached {
				t.Errorf("%d are left", n)
			}
		})
		if !there("m1") || !there("m2") || !there(fmt.Sprint("n", last)) {
			t.Error("who has the most is to give way")
		}
		time.Sleep(2 * time.Hour)
		c.locked(func() {
			if n := len(c.resumable); n != 0 {
				t.Errorf("%d are left", n)
			}
		})
	})
}

// TestOldStreamStillOpen: the peer noticed the loss, we did not.
func TestOldStreamStillOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example")
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		c.owesMany(1, 2)
		m.hears(once(1, 2)...)
		n.freeze(m, true)
		c.owesMany(3, 4)
		m.hears(once(3, 4)...)
		var old *stream
		c.locked(func() {
			for s := range c.streams {
				old = s
			}
		})
		old.socket.(*pipeConn).in.close() // what m writes still goes nowhere, and it does not see an end
		time.Sleep(5 * time.Second)
		m.hears()
		c.owing()
		if !strings.Contains(m.log.String(), "stream of another server resumed") {
			t.Error("it was not resumed")
		}
		c.owesMany(5, 5)
		m.hears("m5 by certificate")
		m.locked(func() {
			if len(m.streams) != 1 {
				t.Errorf("%d streams", len(m.streams))
			}
		})
	})
}

// TestHandledIsDurable: <a/> does not count what the card has not taken, and is not withheld; resumption waits for the card.
func TestHandledIsDurable(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprint("cut=", cut), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, c := twoBoxes(t)
				defer m.stop()
				defer c.stop()
				card := make(chan struct{})
				m.router.HandleTx(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.Message, Type: "chat"}, func(tx *store.Tx, _ *xmpp.Out, rq *xmpp.Request) error {
					if rq.ID == "m1" {
						<-card
					}
					store.AppendLog(tx, &store.Entry{Remote: true, Stanza: rq.Raw})
					return nil
				})
				c.owesMany(0, 0)
				m.hears("m0 by certificate")
				for _, id := range []string{"m1", "m2"} {
					c.owe(xmpp.Make([]byte(`<message type='chat' id='` + id + `' from='juliet@capulet.example' to='romeo@montague.example'/>`)))
				}
				time.Sleep(10 * time.Second)
				c.owing("m1", "m2")
				c.locked(func() {
					for s := range c.streams {
						if s.mgmt.asked {
							t.Error("<r/> is not answered")
						}
					}
				})
				if cut {
					c.net.cutAll()
					time.Sleep(10 * time.Second)
				}
				close(card)
				time.Sleep(10 * time.Second)
				c.owing()
				count := 0
				if err := m.router.Store.View(func(tx *store.Tx) error {
					for range store.LogRemote(tx, 0) {
						count++
					}
					return nil
				}); err != nil || count != 2 {
					t.Errorf("%d were handled, %v", count, err)
				}
			})
		})
	}
}

// TestNoSuchDomain: a slip of the pen comes back at once; what waits for a domain that once was does not.
func TestNoSuchDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		c := n.box("capulet.example", func(o *Options) {
			o.Deny, o.Resolver = []string{"denied.example"}, "192.0.2.53:53"
		})
		defer c.stop()
		var answers atomic.Bool
		nothing := newZone(t, "").exchange
		c.resolver.exchange = func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
			if answers.Load() {
				return nothing(ctx, server, q)
			}
			return slowDNS(ctx, server, q)
		}
		answers.Store(true)
		c.owes("juliet@capulet.example", "romeo@montagu.example", "typo")
		c.hears("typo remote-server-not-found")
		c.owes("juliet@capulet.example", "romeo@denied.example", "denied")
		c.hears("denied not-allowed")
		time.Sleep(2 * cursorDelay)
		c.owing()

		answers.Store(false)
		c.owes("juliet@capulet.example", "romeo@montague.example", "m1")
		time.Sleep(10 * time.Minute)
		answers.Store(true)
		time.Sleep(time.Hour)
		c.hears()
		c.owing("m1")
		time.Sleep(goneTime)
		c.hears("m1 remote-server-not-found")
		time.Sleep(time.Minute)
		c.owing()
	})
}

// TestDomainsChange: what an earlier configuration left can not be delivered.
func TestDomainsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.setCut(true)
		nobody := func(o *Options) {
			o.Routes = append(o.Routes, Route{Domain: "montague.example", Address: "10.9.9.9:5269"}, Route{Domain: "denied.example", Address: "10.9.9.9:5269"})
		}
		c := n.box("capulet.example verona.example", nobody)
		c.owes("juliet@capulet.example", "romeo@montague.example", "m1")
		c.owes("paris@verona.example", "romeo@montague.example", "m2")
		c.owes("juliet@capulet.example", "x@denied.example", "m3")
		synctest.Wait()
		c.stop()
		again := n.boxAt(c.ip, c.path, "capulet.example", nobody, func(o *Options) { o.Deny = []string{"denied.example"} })
		defer again.stop()
		again.Start()
		time.Sleep(10 * time.Second)
		again.hears("m3 not-allowed")
		again.owing("m1")
	})
}

// TestNotOwed: a stored stanza that nobody owes is sent as one that is not stored.
func TestNotOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		for i := range 2 {
			st := message("juliet@capulet.example", "romeo@montague.example", fmt.Sprintf("m%d", i))
			c.Send(st.Stored(uint64(7 + i)))
			m.hears(once(i, i)...)
		}
		c.owing()
	})
}

// TestFailedTransaction: numbers of entries that were not stored are given again.
func TestFailedTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example verona.example")
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		fails := func(to string) {
			c.router.Submit(1, func(tx *store.Tx, out *xmpp.Out) error {
				st := message("juliet@capulet.example", to, "never")
				out.Owe(st, store.AppendLog(tx, &store.Entry{Remote: true, Stanza: st.Raw}))
				return fmt.Errorf("this is to fail")
			}, func(error) {})
		}
		for i := range 5 {
			c.owesMany(i, i)
			fails("romeo@montague.example")
			fails("x@verona.example")
		}
		m.hears(once(0, 4)...)
		time.Sleep(3 * cursorDelay)
		c.owing()
		c.locked(func() {
			for p, l := range c.links {
				if l.debt.active() {
					t.Errorf("%v: %+v", p, l.debt)
				}
			}
		})
	})
}
