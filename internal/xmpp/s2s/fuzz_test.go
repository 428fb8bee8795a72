package s2s

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"github.com/miekg/dns"
)

// heard is a connection that was said all it ever hears.
type heard struct {
	io.Reader
	said bytes.Buffer
}

func (h *heard) Write(b []byte) (int, error)      { return h.said.Write(b) }
func (h *heard) Close() error                     { return nil }
func (h *heard) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (h *heard) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (h *heard) SetDeadline(time.Time) error      { return nil }
func (h *heard) SetReadDeadline(time.Time) error  { return nil }
func (h *heard) SetWriteDeadline(time.Time) error { return nil }

// fuzzed is a box for fuzzing: nothing leaves it, and what reaches its router is kept.
func fuzzed(f *testing.F) (*Server, *[]received, *x509.Certificate) {
	st, err := store.Open(filepath.Join(f.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	ca := newAuthority(f)
	cert := ca.issue(f, "capulet.example")
	router := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
	s, err := New(router, Options{
		TLS: &tls.Config{}, Roots: ca.pool, Dialback: true, StanzaRate: 1 << 30, ByteRate: 1 << 40, Resolver: "192.0.2.53:53",
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody listens") },
	})
	if err != nil {
		f.Fatal(err)
	}
	s.resolver.exchange = func(context.Context, string, *dns.Msg) (*dns.Msg, error) { return nil, errors.New("no DNS") }
	s.stopping = true // nothing is queued: answers come back at once
	b := &box{router: router}
	b.record()
	return s, &b.got, cert.Leaf
}

// allowed tells whether a stanza may have reached the router from a peer that has capulet.example's certificate, or nothing.
func allowed(g received, cert bool) bool {
	return g.peer == nil && g.st.From.Domain == "montague.example" || // errors of our own
		cert && g.peer != nil && g.peer.Proof == xmpp.ProofCertificate && g.peer.Domain == "capulet.example" &&
			g.st.From.Domain == "capulet.example" && g.st.To.Domain == "montague.example"
}

const fuzzHeader = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' to='montague.example' version='1.0' id='s1'>"

// FuzzInbound: whatever a peer sends over TLS, nothing panics, and no stanza reaches the router but from the domain that its certificate proves.
func FuzzInbound(f *testing.F) {
	s, got, cert := fuzzed(f)
	const auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>"
	const message = "<message from='juliet@capulet.example' to='romeo@montague.example' id='m1'/>"
	for _, seed := range []string{
		fuzzHeader + auth + fuzzHeader + message + streamEnd,
		fuzzHeader + "<bidi xmlns='urn:xmpp:bidi'/>" + auth + fuzzHeader + "<db:result from='verona.example' to='montague.example'>k</db:result>" + message,
		fuzzHeader + "<db:result from='capulet.example' to='montague.example'>k</db:result>" + message,
		fuzzHeader + "<db:verify from='capulet.example' to='montague.example' id='x'>k</db:verify>",
		fuzzHeader + "<db:result from='capulet.example' to='montague.example' type='valid'/>" + message,
		fuzzHeader + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'/><response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dmVyb25hLmV4YW1wbGU=</response>" + message,
		fuzzHeader + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
		fuzzHeader + auth + fuzzHeader + "<iq from='verona.example' to='montague.example' type='get' id='1'/>",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, certificate bool) {
		*got = nil
		conn := &heard{Reader: bytes.NewReader(data)}
		st := s.newStream(conn, pair{}, true)
		st.socket = &heard{Reader: bytes.NewReader(nil)} // so that conn is what TLS would be
		if certificate {
			st.certs = []*x509.Certificate{cert}
		}
		err := st.openIn()
		if err == nil {
			err = st.run()
		}
		st.finish(err)
		s.wg.Wait()
		for _, g := range *got {
			if !allowed(g, certificate) {
				t.Errorf("%s was routed, by %+v", g.st.Raw, g.peer)
			}
		}
		wellFormed(t, conn.said.Bytes())
	})
}

// FuzzOutbound is the same for a server that we connected to.
func FuzzOutbound(f *testing.F) {
	s, got, cert := fuzzed(f)
	const header = "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' to='montague.example' version='1.0' id='s1'>"
	const features = "<stream:features><bidi xmlns='urn:xmpp:features:bidi'/><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
	const message = "<message from='juliet@capulet.example' to='romeo@montague.example' id='m1'/>"
	for _, seed := range []string{
		header + features + "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + header + "<stream:features/>" + message + streamEnd,
		header + features + "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure><db:result from='capulet.example' to='montague.example' type='valid'/>" + message,
		header + "<stream:features/><db:result from='capulet.example' to='montague.example' type='error'><error><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>",
		header + features + "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + header + "<stream:features/><db:result from='verona.example' to='montague.example'>k</db:result>",
		header + "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>x</see-other-host></stream:error>",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, certificate bool) {
		*got = nil
		conn := &heard{Reader: bytes.NewReader(data)}
		st := s.newStream(conn, pair{"montague.example", "capulet.example"}, false)
		if certificate {
			st.certs = []*x509.Certificate{cert}
		}
		o, err := st.openOut()
		if err == nil {
			err = st.authenticate(o)
		}
		if err == nil {
			err = st.run()
		}
		st.finish(err)
		s.wg.Wait()
		for _, g := range *got {
			if g.peer != nil && g.peer.Proof == xmpp.ProofDialback && !certificate && g.st.From.Domain == "capulet.example" {
				continue // the place that the DNS gave us took our stanzas, and that is what dialback is worth
			}
			if !allowed(g, certificate) {
				t.Errorf("%s was routed, by %+v", g.st.Raw, g.peer)
			}
		}
		wellFormed(t, conn.said.Bytes())
	})
}

// wellFormed checks that what the box said is a stream, whatever was said to it.
func wellFormed(t *testing.T, said []byte) {
	t.Helper()
	src := bytes.NewReader(said)
	r := frame.NewReader(src, frame.Limits{})
	for {
		ev, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Fatalf("the box said %q: %v", said, err)
		case ev.Kind == frame.KindElement && ev.Element.NS == nsSASL && (ev.Element.Name == "success" || ev.Element.Name == "auth" || ev.Element.Name == "response"):
			r.Restart(src) // a new header follows, unless it is refused
			if bytes.HasPrefix(bytes.TrimSpace(said[len(said)-src.Len()-r.Buffered():]), []byte("<?xml")) {
				continue
			}
			return
		}
	}
}
