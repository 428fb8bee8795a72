package c2s

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"pibox/internal/xmpp/frame"
)

// torn is a client whose connections break, or that gives them up without a word, and that resumes.
type torn struct {
	t       *testing.T
	server  *benchServer
	rng     *rand.Rand
	id      string
	w       *wire
	rd      *frame.Reader
	handled int // of the server's stanzas
	next    int // the number that the next message must have
	resumed int
}

func (c *torn) connect() {
	c.t.Helper()
	nc, err := net.Dial("tcp", c.server.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(60 * time.Second))
	c.w = &wire{Conn: tls.Client(nc, c.server.config)}
	if err := c.w.authenticate(); err != nil {
		c.t.Fatal(err)
	}
	first := "<iq type='set' id='b'><bind xmlns='" + nsBind + "'><resource>torn</resource></bind></iq><enable xmlns='urn:xmpp:sm:3' resume='true'/>"
	if c.id != "" {
		first = fmt.Sprintf("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>", c.handled, c.id)
	}
	if _, err := io.WriteString(c.w, first); err != nil {
		c.t.Fatal(err)
	}
	c.rd = frame.NewReader(io.MultiReader(strings.NewReader(header), &c.w.buf, c.w), frame.Limits{Bytes: 1 << 20, Depth: 10, Attrs: 20, Children: 10})
}

// lose ends the connection in one of the ways in which connections end.
func (c *torn) lose() {
	raw := c.w.Conn.(*tls.Conn).NetConn()
	switch c.rng.IntN(3) {
	case 0: // the server learns of it by the next connection
	case 1:
		_ = raw.Close()
	default:
		_ = raw.(*net.TCPConn).SetLinger(0)
		_ = raw.Close()
	}
	c.connect()
}

// take reads one element, and sends acknowledgements and stanzas of its own.
func (c *torn) take() {
	ev, err := c.rd.Next()
	if err != nil {
		c.t.Fatal(err)
	}
	if ev.Kind != frame.KindElement {
		return
	}
	switch el := ev.Element; el.Name {
	case "enabled":
		c.id = el.Attr("id")
	case "resumed":
		c.resumed++
	case "failed":
		c.t.Fatalf("not resumed: %s", el.Raw)
	case "r":
		_, err = fmt.Fprintf(c.w, "<a xmlns='urn:xmpp:sm:3' h='%d'/>", c.handled)
	case "message":
		c.handled++
		if el.Attr("id") != fmt.Sprint(c.next) {
			c.t.Fatalf("message %s came in the place of %d, after %d resumptions", el.Attr("id"), c.next, c.resumed)
		}
		c.next++
		_, err = io.WriteString(c.w, "<presence/><r xmlns='urn:xmpp:sm:3'/>")
	case "iq", "presence":
		if c.id != "" {
			c.handled++
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Each message arrives once and in order, wherever connections break while others are being sent.
func TestTorn(t *testing.T) {
	const messages = 3000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	b := newBox(t, t.TempDir(), nil, Options{StanzaRate: 1e6, StanzaBurst: 1e6})
	t.Cleanup(func() { b.stop(t) })
	s := &benchServer{address: b.listen(t, true), config: &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool()}}
	c := &torn{t: t, server: s, rng: rand.New(rand.NewPCG(seed, 1))}
	c.connect()
	for c.id == "" {
		c.take()
	}
	from := dialTLS(t, b, s.address, "from", nil)
	_ = from.SetDeadline(time.Now().Add(60 * time.Second))
	sent, window := make(chan error, 1), make(chan struct{}, 500) // not more than is kept for a session
	go func() {
		for i := range messages {
			window <- struct{}{}
			_, err := fmt.Fprintf(from, "<message to='romeo@montague.example/torn' id='%d'><body>%s</body></message>", i, strings.Repeat("x", i%200))
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for c.next < messages {
		if c.rng.IntN(40) == 0 {
			c.lose()
		}
		before := c.next
		c.take()
		for range c.next - before {
			<-window
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if n := len(b.router.Sessions(romeo())); n != 2 {
		t.Errorf("%d sessions", n)
	}
	t.Logf("%d resumptions", c.resumed)
}
