package s2s

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
)

func ids(from, to int, suffix string) []string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprintf("m%d%s", i, suffix))
	}
	return list
}

// twoBoxes are montague.example and, later, capulet.example, which talks to it.
func twoBoxes(t *testing.T, change ...func(*Options)) (m, c *box) {
	n := newNet(t)
	return n.box("montague.example"), n.box("capulet.example", change...)
}

func (b *box) saysMany(from, to int) {
	for i := from; i <= to; i++ {
		b.says("juliet@capulet.example/balcony", "romeo@montague.example", fmt.Sprintf("m%d", i))
	}
}

func TestQueueWaitsForThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.net.setCut(true)
		c.saysMany(1, 50)
		time.Sleep(50 * time.Second) // the bubble's clock, here and below
		c.saysMany(51, 60)
		c.net.setCut(false)
		m.hears()
		time.Sleep(backoffMax * 6 / 5)
		m.hears(ids(1, 60, " by certificate")...)
		c.hears()
	})
}

func TestQueueTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.net.setCut(true)
		c.saysMany(1, 3)
		time.Sleep(100 * time.Second)
		c.saysMany(4, 4)
		time.Sleep(19 * time.Second)
		c.hears()
		time.Sleep(2 * time.Second)
		c.hears(ids(1, 3, " remote-server-not-found")...) // nobody listens
		time.Sleep(100 * time.Second)
		c.hears("m4 remote-server-not-found")
		time.Sleep(linkForgets + backoffMax*2)
		synctest.Wait()
		if len(c.links) != 0 || c.queued != 0 {
			t.Errorf("%d links are left, and %d bytes", len(c.links), c.queued)
		}
	})
}

func TestQueueLimits(t *testing.T) {
	size := len(message("juliet@capulet.example/balcony", "romeo@montague.example", "m1").Raw) + itemCost
	for name, limit := range map[string]func(*Options){
		"of the pair": func(o *Options) { o.QueueBytes = 3 * size },
		"of all":      func(o *Options) { o.QueueTotal = 3 * size },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, c := twoBoxes(t, limit)
				defer m.stop()
				defer c.stop()
				c.net.setCut(true)
				c.saysMany(1, 5)
				c.hears("m4 resource-constraint", "m5 resource-constraint")
				c.net.setCut(false)
				time.Sleep(5 * time.Second)
				m.hears(ids(1, 3, " by certificate")...)
				c.saysMany(6, 6)
				m.hears("m6 by certificate")
			})
		})
	}
}

// TestManyLinks: who makes a box talk with ever more domains gets refusals while it waits for them, but shuts nobody out afterwards.
func TestManyLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example rosaline.example paris.example")
		defer m.stop()
		c := n.box("capulet.example", func(o *Options) { o.Links = 2 })
		defer c.stop()
		for _, d := range []string{"montague", "rosaline", "paris", "montague"} {
			c.says("juliet@capulet.example/balcony", "x@"+d+".example", d)
			m.hears(d + " by certificate")
			time.Sleep(time.Second)
			synctest.Wait()
			if len(c.links) > 2 || len(c.streams) > 2 {
				t.Errorf("%d links, %d streams", len(c.links), len(c.streams))
			}
		}
		c.resolver.exchange = slowDNS
		for _, d := range []string{"a", "b", "c"} {
			c.says("juliet@capulet.example/balcony", "x@"+d+".example", d)
		}
		c.hears("c resource-constraint")
	})
}

// TestStuckPeer: one that takes nothing holds up nobody else, and what it does not take comes back.
func TestStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example")
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		var stuck []net.Conn
		dial := c.opt.Dial
		c.opt.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "10.7.7.7") {
				return dial(ctx, network, address)
			}
			place := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.7.7.7:5269"))
			ours, theirs := pipe(16, place, place)
			stuck = append(stuck, theirs)
			return ours, nil
		}
		c.routes["stuck.example"] = target{host: "10.7.7.7", port: 5269, route: true}
		c.says("juliet@capulet.example/balcony", "x@stuck.example", "s1")
		c.saysMany(1, 1)
		m.hears("m1 by certificate")
		time.Sleep(121 * time.Second)
		c.hears("s1 remote-server-timeout")
		c.saysMany(2, 2)
		m.hears("m2 by certificate")
	})
}

// TestPeerStopsReading: an established peer that takes no more is given up after the write deadline; what was not taken waits for the next
// connection, in its order.
func TestPeerStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.net.room = 8 << 10
		c.saysMany(1, 1)
		m.hears("m1 by certificate")
		room := make(chan struct{})
		m.router.FilterIn(func(*xmpp.Request) (bool, error) { return false, nil })
		m.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.Message, Type: "normal"}, func(*xmpp.Request) error {
			<-room
			return nil
		})
		c.Send(xmpp.Make([]byte(`<message type='normal' id='hold' from='juliet@capulet.example' to='romeo@montague.example'/>`)))
		c.saysMany(2, 300)
		time.Sleep(61 * time.Second)
		close(room)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		// Those that were on their way when the connection was given up may be lost or not; none comes twice or out of its order.
		last := 0
		for _, g := range m.take() {
			var n int
			if _, err := fmt.Sscanf(g.st.ID, "m%d", &n); err != nil || n <= last {
				t.Fatalf("%s came after m%d", g.st.ID, last)
			}
			last = n
		}
		if last != 300 {
			t.Errorf("the last that came is m%d", last)
		}
		c.hears()
	})
}

func TestConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		for i := 1; i <= 3; i++ {
			c.saysMany(i, i)
			m.hears(fmt.Sprintf("m%d by certificate", i))
			c.net.setCut(i == 3)
			for _, conn := range c.net.conns {
				_ = conn.Close()
			}
			synctest.Wait()
		}
		if len(m.streams) != 0 || m.inbound != 0 {
			t.Errorf("%d streams are left, %d connections", len(m.streams), m.inbound)
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		c.saysMany(1, 1)
		m.hears("m1 by certificate")
		c.resolver.exchange = slowDNS
		c.says("juliet@capulet.example/balcony", "x@verona.example", "v1")
		c.saysMany(2, 40)
		start := time.Now()
		c.stop()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		m.hears(ids(2, 40, " by certificate")...)
		c.hears("v1 remote-server-timeout")
		if !strings.Contains(m.log.String(), "system-shutdown") {
			t.Error("the peer was not told")
		}
		c.saysMany(41, 41)
		c.hears("m41 remote-server-timeout")
	})
}

func TestShutdownWithStuckPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		c.net.room = 8 << 10
		c.saysMany(1, 1)
		m.hears("m1 by certificate")
		m.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.Message, Type: "normal"}, func(*xmpp.Request) error {
			time.Sleep(time.Hour)
			return nil
		})
		c.Send(xmpp.Make([]byte(`<message type='normal' id='hold' from='juliet@capulet.example' to='romeo@montague.example'/>`)))
		c.saysMany(2, 300)
		start := time.Now()
		c.stop()
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		came, returned := len(m.take()), len(c.take())
		if came+returned < 250 {
			t.Errorf("%d came, %d were returned", came, returned)
		}
	})
}

// TestRate: a peer that sends too fast is read more slowly.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example", func(o *Options) { o.StanzaRate = 10 })
		defer m.stop()
		c := n.box("capulet.example")
		defer c.stop()
		c.saysMany(1, 100)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if got := len(m.take()); got < 50 || got > 65 {
			t.Errorf("%d in 4 s", got)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := len(m.take()); got < 35 {
			t.Errorf("%d in 5 s more", got)
		}
	})
}

// TestMustNotLeave: what is for us, or from somebody else, never reaches the network.
func TestMustNotLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.says("juliet@capulet.example", "nurse@capulet.example", "m1")
		c.says("romeo@montague.example", "x@verona.example", "m2")
		c.says("juliet@capulet.example", "x@192.0.2.1", "m3")
		c.hears("m3 not-allowed")
		m.hears()
	})
}

// cutConn loses the connection after some bytes.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	c.left -= len(b)
	return c.Conn.Write(b)
}

// TestPoison: a stanza that costs a connection each time comes back after a few, and does not hold up the others.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		dial, dialed := c.opt.Dial, 0
		c.opt.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialed++
			conn, err := dial(ctx, network, address)
			return &cutConn{conn, 50_000}, err
		}
		c.saysMany(1, 1)
		c.Send(xmpp.Make(xmpp.NewXML("message").Attr("from", "juliet@capulet.example/balcony").Attr("to", "romeo@montague.example").
			Attr("id", "big").Leaf("body", "", strings.Repeat("x", 100_000)).Bytes()))
		c.saysMany(2, 2)
		time.Sleep(30 * time.Second)
		m.hears("m1 by certificate", "m2 by certificate")
		c.hears("big remote-server-timeout")
		if dialed != maxTries+1 {
			t.Errorf("%d connections", dialed)
		}
	})
}

// What was written to a stream that then ended is not known to have arrived.
func TestLostStreamsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := twoBoxes(t)
		defer m.stop()
		defer c.stop()
		c.saysMany(1, 1)
		m.hears("m1 by certificate")
		before := c.Lost()
		c.saysMany(2, 2)
		m.hears("m2 by certificate")
		if c.Lost() != before {
			t.Error("a loss is counted while the stream is up")
		}
		for _, conn := range c.net.conns {
			_ = conn.Close()
		}
		synctest.Wait()
		c.saysMany(3, 3)
		m.hears("m3 by certificate")
		if c.Lost() == before {
			t.Error("the stream ended, and nothing was counted")
		}
	})
}
