package c2s

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// script is a connection whose peer sends what was written beforehand, in pieces, and takes everything.
type script struct {
	in  []byte
	cut int // size of a piece
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.cut)], s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzNegotiation: whatever a client sends, before TLS (mode 0), before the login (1), and after it (2, as romeo): nothing panics, nobody
// is logged in without a password or bound as somebody else, and what the server sends is a well-formed stream.
func FuzzNegotiation(f *testing.F) {
	for _, file := range []string{"testdata/streams.txt", "testdata/login.txt", "testdata/bind.txt", "testdata/session.txt", "testdata/sm.txt", "testdata/csi.txt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for talk := range strings.SplitSeq(string(text), "\n# ") {
			var sent strings.Builder
			for line := range strings.SplitSeq(talk, "\n") {
				if what, ok := strings.CutPrefix(line, "C: "); ok {
					sent.WriteString(strings.ReplaceAll(what, "STREAM", header))
				}
			}
			for mode := range byte(3) {
				f.Add(mode, byte(7), []byte(header+sent.String()))
				f.Add(mode, byte(255), []byte(sent.String()))
			}
		}
	}
	b := newBox(f, f.TempDir(), nil, Options{StanzaRate: 1e9, ByteRate: 1 << 40})
	f.Cleanup(func() { b.stop(f) })
	f.Fuzz(func(t *testing.T, mode, cut byte, data []byte) {
		sc := &script{in: data, cut: int(cut) + 1}
		c := b.server.newConn(sc, false)
		c.srv.running.Add(1)
		var err error
		switch mode % 3 {
		case 0:
			err = c.stages()
		case 1:
			if err = c.login(nil); err == nil {
				t.Fatal("logged in")
			}
		case 2:
			err = fuzzBound(t, c)
		}
		if err == nil {
			t.Fatal("no error at the end of the connection")
		}
		c.waiting = false // not counted
		c.srv.perAddr.Acquire(c.addr)
		c.stop(err)
		for _, l := range b.server.streams.all() { // lost, and not resumed
			l.finish(l.idle)
		}
		checkStream(t, sc.out.Bytes())
		if n := len(b.router.Sessions(romeo())); n != 0 {
			t.Fatalf("%d sessions are left", n)
		}
	})
}

func fuzzBound(t *testing.T, c *conn) error {
	c.account = romeo()
	if err := c.bind(); err != nil {
		return err
	}
	if c.session.JID.Bare() != romeo() {
		t.Fatalf("bound as %s", c.session.JID)
	}
	return c.relay()
}

// checkStream reads what the server sent as a client would, up to and with the end of the stream.
func checkStream(t *testing.T, sent []byte) {
	text := string(sent)
	// Each stream of the connection begins with an XML declaration.
	for part := range strings.SplitSeq(text, "<?xml version='1.0'?>") {
		if part == "" {
			continue
		}
		r := frame.NewReader(strings.NewReader(part), frame.Limits{Bytes: 1 << 20})
		for {
			ev, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("the server sent\n%s\n%v", part, err)
			}
			if ev.Kind == frame.KindElement && ev.Element.NS != xmpp.NSClient {
				continue
			}
			if ev.Kind == frame.KindElement && ev.Element.Attr("type") != "error" && ev.Element.Name != "iq" {
				if from := ev.Element.Attr("from"); !strings.HasPrefix(from, "romeo@montague.example/") {
					t.Fatalf("a stanza from %s", from)
				}
			}
		}
	}
	// After proceed there is no stream until TLS is there; a stream that may be resumed breaks off.
	if strings.Contains(text, " resume='true' ") {
		return
	}
	if text != "" && !strings.HasSuffix(text, "</stream:stream>") && !strings.HasSuffix(text, "<proceed xmlns='"+nsTLS+"'/>") {
		t.Fatalf("the stream has no end: %s", text)
	}
}
