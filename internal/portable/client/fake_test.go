package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const own = "juliet@old.example"

// fake is a server that says what the test wants. It takes one connection after the other.
type fake struct {
	cert  tls.Certificate
	roots *x509.CertPool

	// features after TLS; empty: PLAIN, which a fake understands without computing anything.
	features string
	// bound are the features after the login, beside the resource.
	bound string
	// login answers what comes between the features and the new stream; nil: PLAIN succeeds.
	login func(c *fakeConn, el *frame.Element)
	// hear answers a stanza; what it leaves alone is refused with service-unavailable.
	hear func(c *fakeConn, el *frame.Element) bool
	// raw, where it is not nil, has the connection to itself from the first byte.
	raw func(conn net.Conn)
	// resource that is given; empty: the right one.
	resource string
	after    func(c *fakeConn) // once the resource is bound

	wg    sync.WaitGroup
	mu    sync.Mutex
	heard []string
	conns int
}

type fakeConn struct {
	f    *fake
	conn net.Conn
	in   *pump
	rd   *frame.Reader
}

// pump reads ahead, as a kernel does, so that two who write to each other do not wait for each other.
type pump struct {
	more chan []byte
	rest []byte
}

func (p *pump) run(r io.Reader) {
	defer close(p.more)
	for {
		b := make([]byte, 4096)
		n, err := r.Read(b)
		if err != nil {
			return
		}
		p.more <- b[:n]
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		var ok bool
		if p.rest, ok = <-p.more; !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func newFake(t *testing.T) *fake {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake"}, DNSNames: []string{"old.example"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots: x509.NewCertPool()}
	f.roots.AddCert(leaf)
	t.Cleanup(f.wg.Wait)
	return f
}

// config logs in to the fake. In a bubble of synctest the time-outs cost nothing.
func (f *fake) config() client.Config {
	return client.Config{
		Account: xmpp.MustJID(own), Password: "secret", Address: "127.0.0.1:5223", Direct: true,
		Roots: func() *x509.CertPool { return f.roots },
		Dial: func(context.Context, string, string) (net.Conn, error) {
			mine, yours := net.Pipe()
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
			f.wg.Go(func() { f.serve(mine) })
			return yours, nil
		},
	}
}

func (f *fake) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if f.raw != nil {
		f.raw(conn)
		return
	}
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{f.cert}})
	if secure.Handshake() != nil {
		return
	}
	c := &fakeConn{f: f, conn: secure}
	c.in = &pump{more: make(chan []byte, 100_000)}
	go c.in.run(secure)
	c.rd = frame.NewReader(c.in, frame.Limits{})
	features := f.features
	if features == "" {
		features = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
	}
	for bound := false; ; {
		ev, err := c.rd.Next()
		if err != nil {
			return
		}
		switch el := ev.Element; {
		case ev.Kind == frame.KindHeader:
			c.open(features)
		case ev.Kind == frame.KindEnd:
			c.say("</stream:stream>")
			return
		case ev.Kind != frame.KindElement:
		case el.NS == "urn:ietf:params:xml:ns:xmpp-sasl" && f.login != nil:
			f.login(c, el)
			features = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>" + f.bound
		case el.NS == "urn:ietf:params:xml:ns:xmpp-sasl":
			c.succeed("")
			features = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>" + f.bound
		case !bound:
			bound = true
			resource := f.resource
			if resource == "" {
				resource = own + "/x"
			}
			c.say("<iq type='result' id='" + el.Attr("id") + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>" + resource + "</jid></bind></iq>")
			if f.after != nil {
				f.after(c)
			}
		default:
			c.stanza(el)
		}
	}
}

func (c *fakeConn) open(features string) {
	c.say("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:extra='urn:extra' version='1.0' from='old.example' id='s'>" +
		"<stream:features>" + features + "</stream:features>")
}

func (c *fakeConn) succeed(data string) {
	c.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + data + "</success>")
	c.rd.Restart(c.in)
}

func (c *fakeConn) stanza(el *frame.Element) {
	c.f.mu.Lock()
	c.f.heard = append(c.f.heard, string(el.Raw))
	c.f.mu.Unlock()
	if c.f.hear != nil && c.f.hear(c, el) || el.Name != "iq" || el.Attr("type") == "result" || el.Attr("type") == "error" {
		return
	}
	c.say("<iq type='error' id='" + el.Attr("id") + "'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
}

func (c *fakeConn) say(s string) { _, _ = io.WriteString(c.conn, s) }

// result answers a question.
func (c *fakeConn) result(el *frame.Element, payload string) bool {
	c.say("<iq type='result' id='" + el.Attr("id") + "' from='" + own + "'>" + payload + "</iq>")
	return true
}

func (f *fake) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

// all is every stanza that came.
func (f *fake) all() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.heard, "\n")
}

// kind is that of an error, "" of none, or the error itself where it has none.
func kind(err error) string {
	var e *client.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return string(e.Kind)
	}
	return err.Error()
}

// nowhere is a resolver whose name server can not be reached.
func nowhere() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no network")
	}}
}
