package client_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/xmpp/frame"
)

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const (
	// sent is what a hostile server sends in these tests, in pieces of junk.
	sent  = 48 << 20
	piece = 512 << 10
	// pinned is what may be left of it.
	pinned = 8 << 20
)

func junk() string { return strings.Repeat("z", piece) }

// nothing takes everything and keeps nothing.
type nothing struct {
	*portable.Writer
	requests int
	losses   []portable.Loss
	look     func(request int)
}

func (n *nothing) Pending([]byte) error {
	n.requests++
	n.look(n.requests)
	return nil
}

func (n *nothing) Unknown(l portable.Loss) error {
	n.losses = append(n.losses, l)
	return nil
}

// What is kept of a stanza is a few bytes: the rest of it does not stay in memory with them.
func TestRequestsPinNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			switch {
			case asks(el, "jabber:iq:roster"):
				return c.result(el, roster(1))
			case el.Name == "presence" && el.Attr("type") == "":
				for i := range sent / piece {
					c.say(fmt.Sprintf("<presence type='subscribe' from='c%d@x.example' z='%s'/>", i, junk()))
				}
				return true
			}
			return false
		}
		n, before := &nothing{Writer: portable.NewWriter(io.Discard)}, heap()
		n.look = func(request int) {
			if request < sent/piece {
				return
			}
			if more := heap() - before; more > pinned {
				t.Errorf("%d MiB are kept of %d requests", more>>20, request)
			}
		}
		if _, err := client.Bring(t.Context(), f.config(), n, client.Options{}); err != nil {
			t.Fatal(err)
		}
		if n.requests != sent/piece {
			t.Errorf("%d requests", n.requests)
		}
	})
}

// A contact list that pushes let grow is as large as one that comes at once, at the most.
func TestPushesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		groups := ""
		for i := range 100 {
			groups += fmt.Sprintf("<group>%d%s</group>", i, strings.Repeat("g", 1000))
		}
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			if !asks(el, "jabber:iq:roster") || el.Attr("type") != "get" {
				return false
			}
			go func() {
				for i := range 500 {
					c.say(fmt.Sprintf("<iq type='set' id='p%d'><query xmlns='jabber:iq:roster'><item jid='c%d@x.example' subscription='none'>%s</item></query></iq>", i, i, groups))
				}
				c.result(el, roster(1))
			}()
			return true
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		before := heap()
		if _, err := s.Roster(t.Context()); kind(err) != string(client.TooMuch) {
			t.Errorf("%v, and %d MiB more", err, (heap()-before)>>20)
		}
	})
}

// The new server may tell of whom it likes: only contacts are noted.
func TestMoverNotesOnlyContacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.after = func(c *fakeConn) {
			go func() {
				for i := range sent / piece {
					c.say(fmt.Sprintf("<presence type='%s' from='c%d@x.example' z='%s'/>", []string{"unsubscribed", "error"}[i%2], i, junk()))
				}
			}()
		}
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			return asks(el, "jabber:iq:roster") && c.result(el, "<query xmlns='jabber:iq:roster'/>")
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		before := heap()
		m, err := s.Mover(t.Context(), client.Words{})
		if err == nil {
			err = m.Wait(t.Context(), 10*time.Second, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if more := heap() - before; more > pinned {
			t.Errorf("%d MiB are kept of what the server said of strangers", more>>20)
		}
		runtime.KeepAlive(m)
	})
}

// What a server says is quoted in a few words, whatever it is.
func TestWordsAreShort(t *testing.T) {
	long := strings.Repeat("a", 1<<20)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.hear = func(c *fakeConn, el *frame.Element) bool {
			switch {
			case asks(el, "jabber:iq:roster"):
				return c.result(el, roster(1))
			case el.Name == "iq":
				c.say("<iq type='error' id='" + el.Attr("id") + "'><error type='cancel'><" + long + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>" +
					"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>" + long + "</text></error></iq>")
				return true
			}
			return false
		}
		n := &nothing{Writer: portable.NewWriter(io.Discard)}
		if _, err := client.Bring(t.Context(), f.config(), n, client.Options{}); err != nil {
			t.Fatal(err)
		}
		if len(n.losses) == 0 {
			t.Error("nothing was lost")
		}
		for _, l := range n.losses {
			if len(l.What)+len(l.Why) > 1000 {
				t.Errorf("a loss of %d bytes", len(l.What)+len(l.Why))
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.hear = func(c *fakeConn, _ *frame.Element) bool {
			c.say("<stream:error><" + long + " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
			return true
		}
		s, err := client.Dial(t.Context(), f.config())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if _, err := s.Roster(t.Context()); err == nil || len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
