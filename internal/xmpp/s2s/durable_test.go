package s2s

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// owes stores messages for another server and sends them, each in a transaction of its own, as package delivery does.
func (b *box) owes(from, to string, texts ...string) {
	b.net.t.Helper()
	for _, text := range texts {
		b.owe(message(from, to, text))
	}
	if err := b.router.Update(func(*store.Tx, *xmpp.Out) error { return nil }); err != nil {
		b.net.t.Error(err)
	}
}

func (b *box) owe(st *xmpp.Stanza) {
	b.router.Submit(64, func(tx *store.Tx, out *xmpp.Out) error {
		seq := store.AppendLog(tx, &store.Entry{Remote: true, Stanza: st.Raw})
		out.Owe(st, seq)
		out.After(func() { out.Emit(st.Stored(seq)) })
		return nil
	}, nil)
}

func (b *box) owesMany(from, to int) {
	b.owes("juliet@capulet.example/balcony", "romeo@montague.example", ids(from, to, "")...)
}

// owing checks what the store says: entries that are owed, by their ids, and cursors.
func (b *box) owing(want ...string) {
	b.net.t.Helper()
	synctest.Wait()
	var have []string
	err := b.router.Store.View(func(tx *store.Tx) error {
		at := map[string]uint64{}
		for key, n := range store.Progress.All(tx, store.ProgressSent) {
			p, _ := pairOf(key)
			at[p.remote] = uint64(n)
		}
		for seq, e := range store.LogRemote(tx, 0) {
			st := xmpp.Make(e.Stanza)
			if cursor, ok := at[st.To.Domain]; ok && seq > cursor {
				have = append(have, st.ID)
			}
			delete(at, "")
		}
		if len(have) == 0 && len(at) > 0 {
			have = append(have, fmt.Sprint(slices.Collect(maps.Keys(at))))
		}
		return nil
	})
	if err != nil {
		b.net.t.Fatal(err)
	}
	if strings.Join(have, " ") != strings.Join(want, " ") {
		b.net.t.Errorf("%s owes %q, expected %q", b.router.Domains()[0], have, want)
	}
}

// cutAll breaks all connections: what was written arrives, unless its direction is frozen.
func (n *testNet) cutAll() {
	n.mu.Lock()
	conns := n.conns
	n.conns = nil
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// freeze stops what goes from a box, or to it, on the connections that are there.
func (n *testNet) freeze(b *box, from bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		c := conn.(*pipeConn)
		mine := c.local.(*net.TCPAddr).IP.String() == b.ip.String()
		h := c.in
		if mine == from {
			h = c.out
		}
		h.mu.Lock()
		h.frozen = true
		h.mu.Unlock()
	}
}

// restart is a power cut: nothing of the box survives but what its store had.
func (b *box) restart(change ...func(*Options)) *box {
	t := b.net.t
	t.Helper()
	synctest.Wait()
	raw, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pibox.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b.net.mu.Lock()
	b.gone = true
	b.net.mu.Unlock()
	b.net.cutAll()
	b.stop()
	again := b.net.boxAt(b.ip, path, strings.Join(b.router.Domains(), " "), change...)
	again.Start()
	return again
}

func withoutSM(o *Options) { o.withoutSM = true }

func once(from, to int) []string { return ids(from, to, " by certificate") }

// TestLinkBreaks cuts the link after messages were written to it and before they were acknowledged.
func TestLinkBreaks(t *testing.T) {
	for _, tt := range []struct {
		name      string
		lostThere bool // the messages do not arrive; else the acknowledgements do not
		peer      func(*Options)
		restarts  bool // the peer does not know the stream any more
		twice     bool
	}{
		{name: "messages lost, resumed", lostThere: true},
		{name: "acknowledgements lost, resumed"},
		{name: "messages lost, the peer restarts", lostThere: true, restarts: true},
		{name: "acknowledgements lost, the peer restarts", restarts: true, twice: true},
		{name: "messages lost, a peer without stream management", lostThere: true, peer: withoutSM},
		{name: "pong lost, a peer without stream management", peer: withoutSM, twice: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				change := []func(*Options){}
				if tt.peer != nil {
					change = append(change, tt.peer)
				}
				m := n.box("montague.example", change...)
				defer func() { m.stop() }()
				c := n.box("capulet.example")
				defer c.stop()
				c.owesMany(1, 1)
				m.hears(once(1, 1)...)
				time.Sleep(10 * time.Second)
				c.owing()
				n.freeze(c, tt.lostThere)
				c.owesMany(2, 20)
				if tt.lostThere {
					m.hears()
				} else {
					m.hears(once(2, 20)...)
				}
				c.owing(ids(2, 20, "")...)
				if tt.restarts {
					m = m.restart(change...)
				} else {
					n.cutAll()
				}
				time.Sleep(time.Minute)
				if tt.lostThere || tt.twice {
					m.hears(once(2, 20)...)
				} else {
					m.hears()
				}
				c.owing()
				c.owesMany(21, 22)
				m.hears(once(21, 22)...)
				time.Sleep(10 * time.Second)
				c.owing()
				c.hears()
			})
		})
	}
}

// TestBoxRestarts: what is owed survives a power cut, and is delivered in order. What arrived just before may come again.
func TestBoxRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example verona.example")
		defer m.stop()
		c := n.box("capulet.example")
		defer func() { c.stop() }()
		c.owesMany(1, 3)
		m.hears(once(1, 3)...)
		time.Sleep(cursorDelay + time.Second)
		c.owing()
		n.setCut(true)
		n.cutAll()
		c.owesMany(4, 6)
		c.owes("nurse@capulet.example", "paris@verona.example", "v1")
		c.owesMany(7, 8)
		synctest.Wait()
		c = c.restart()
		time.Sleep(time.Minute)
		c.owing("m4", "m5", "m6", "v1", "m7", "m8")
		c.owesMany(9, 9)
		n.setCut(false)
		time.Sleep(2 * backoffMax)
		synctest.Wait()
		var romeo, paris []string
		for _, g := range m.take() {
			if g.st.To.Domain == "verona.example" {
				paris = append(paris, g.st.ID)
				continue
			}
			romeo = append(romeo, g.st.ID)
			if g.st.ID != "m9" && !g.st.HasChild(nsDelay, "delay") {
				t.Errorf("%s does not tell that it is late", g.st.ID)
			}
		}
		if got := strings.Join(romeo, " "); got != strings.Join(ids(4, 9, ""), " ") || len(paris) != 1 {
			t.Errorf("came: %s; %s", romeo, paris)
		}
		c.owing()
		c.hears()
	})
}

// TestRestartRightAfterAck: the store learns what arrived with the next message of the pair, or a little later.
func TestRestartRightAfterAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer func() { c.stop() }()
		c.owesMany(1, 3)
		m.hears(once(1, 3)...)
		c.owesMany(4, 4)
		m.hears(once(4, 4)...)
		c.owing("m4")
		c = c.restart()
		m.hears("m4 by certificate")
		time.Sleep(cursorDelay + time.Second)
		c.owing()
	})
}

// TestSentAgain: what a peer may have got already says so; what is sent for the first time does not, nor what the peer says not to have.
func TestSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example verona.example")
		defer func() { m.stop() }()
		c := n.box("capulet.example")
		defer func() { c.stop() }()
		came := func(when, want string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, g := range m.take() {
				id := g.st.ID
				if g.st.SentAgain() {
					id += " again"
				}
				got = append(got, id)
			}
			if all := strings.Join(got, ", "); all != want {
				t.Errorf("%s: %s; wanted %s", when, all, want)
			}
		}
		c.owesMany(1, 3)
		came("at first", "m1, m2, m3")
		c = c.restart()
		c.owesMany(4, 4)
		came("after a restart", "m1 again, m2 again, m3 again, m4")
		time.Sleep(10 * time.Second)
		n.freeze(c, true)
		c.owesMany(5, 5)
		n.cutAll()
		time.Sleep(time.Minute)
		came("resumed", "m5")
		n.freeze(c, false)
		c.owesMany(6, 6)
		came("again at first", "m6")
		m = m.restart()
		time.Sleep(time.Minute)
		came("the peer restarted", "m6 again")
		c.hears()
	})
}

// TestBacklog is larger than what is kept in memory.
func TestBacklog(t *testing.T) {
	size := len(message("juliet@capulet.example/balcony", "romeo@montague.example", "m1").Raw) + itemCost
	for name, limit := range map[string]func(*Options){
		"stanzas":      func(o *Options) { o.queueStanzas = 10 },
		"bytes":        func(o *Options) { o.QueueBytes = 20 * size },
		"bytes of all": func(o *Options) { o.QueueTotal = 20 * size },
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart=%v", name, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, c := twoBoxes(t, limit)
					defer m.stop()
					defer func() { c.stop() }()
					c.net.setCut(true)
					c.owesMany(1, 300)
					if restart {
						c = c.restart(limit)
					}
					time.Sleep(time.Hour)
					c.locked(func() {
						l := c.links[pair{"capulet.example", "montague.example"}]
						if len(l.queue) == 0 || len(l.queue) > 20 || len(l.debt.open) > 300 || c.queued > 20*size {
							t.Errorf("%d stanzas are queued, %d known, %d bytes", len(l.queue), len(l.debt.open), c.queued)
						}
					})
					c.says("juliet@capulet.example/balcony", "romeo@montague.example", "now")
					c.net.setCut(false)
					time.Sleep(2 * backoffMax)
					synctest.Wait()
					var have []string
					for _, g := range m.take() {
						if g.st.ID != "now" {
							have = append(have, g.st.ID)
						}
					}
					if !slices.Equal(have, ids(1, 300, "")) {
						t.Errorf("came: %v", have)
					}
					c.owing()
					c.owesMany(301, 302)
					m.hears(once(301, 302)...)
					c.locked(func() {
						if c.queued != 0 {
							t.Errorf("%d bytes are left", c.queued)
						}
					})
				})
			})
		}
	}
}

func (b *box) locked(f func()) {
	b.Server.mu.Lock()
	defer b.Server.mu.Unlock()
	f()
}

// TestDaysPass: what could not be delivered for days comes back, by its own time.
func TestDaysPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer func() { c.stop() }()
		c.net.setCut(true)
		c.owesMany(1, 2)
		time.Sleep(24 * time.Hour)
		c.owesMany(3, 3)
		time.Sleep(47 * time.Hour)
		c.hears()
		c.owing("m1", "m2", "m3")
		c = c.restart()
		time.Sleep(61 * time.Minute)
		c.hears("m1 remote-server-not-found", "m2 remote-server-not-found")
		c.owing("m3")
		time.Sleep(24 * time.Hour)
		c.hears("m3 remote-server-not-found")
		time.Sleep(time.Hour)
		c.owing()
		c.locked(func() {
			if len(c.links) != 0 || c.queued != 0 {
				t.Errorf("%d links are left, %d bytes", len(c.links), c.queued)
			}
		})
		c.net.setCut(false)
		c.owesMany(4, 4)
		m.hears("m4 by certificate")
	})
}

// TestShutdownOrderly: what waits is there after it, what arrived is not sent again.
func TestShutdownOrderly(t *testing.T) {
	for _, sm := range []bool{true, false} {
		t.Run(fmt.Sprint("sm=", sm), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				m := n.box("montague.example", func(o *Options) { o.withoutSM = !sm })
				defer m.stop()
				c := n.box("capulet.example")
				c.owesMany(1, 1)
				m.hears(once(1, 1)...)
				c.owesMany(2, 40)
				c.owes("juliet@capulet.example/balcony", "x@nowhere.example", "n1")
				c.stop()
				m.hears(once(2, 40)...)
				again := n.boxAt(c.ip, c.path, "capulet.example")
				again.resolver.exchange = slowDNS
				again.Start()
				again.owing("n1")
				m.hears()
				again.stop()
			})
		})
	}
}

// TestPeerNeverAcknowledges, be it by stream management or by pong: it is tried again, ever more rarely, and comes back in the end.
func TestPeerWithoutPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		n.silent = true
		m := n.box("montague.example", withoutSM)
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		c.owesMany(1, 3)
		time.Sleep(10 * time.Minute)
		// No answer reaches us, but the end of its stream shows that it read ours to the end.
		synctest.Wait()
		var have []string
		for _, g := range m.take() {
			if g.st.Kind == xmpp.Message {
				have = append(have, g.st.ID)
			}
		}
		if !slices.Equal(have, ids(1, 3, "")) {
			t.Errorf("came: %v", have)
		}
		c.owing()
		c.hears()
	})
}

// TestAccountRemoved: what was accepted is delivered, though nobody owns it any more; what the log lost is no debt.
func TestAccountRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer func() { c.stop() }()
		c.net.setCut(true)
		c.owesMany(1, 3)
		if err := c.router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			store.ClearAccount(tx, "juliet@capulet.example")
			for seq, e := range store.LogRemote(tx, 0) {
				if xmpp.Make(e.Stanza).ID == "m2" {
					store.ForgetRemote(tx, seq)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		c = c.restart()
		c.net.setCut(false)
		time.Sleep(2 * backoffMax)
		m.hears("m1 by certificate", "m3 by certificate")
		c.owing()
	})
}
