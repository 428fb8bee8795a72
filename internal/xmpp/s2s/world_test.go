package s2s

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// authority issues certificates; its key is made once, for a bubble's clock needs new certificates each time.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	for _, f := range change {
		f(tmpl)
	}
	return &authority{sign(t, tmpl, tmpl, key, key), key}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a server's certificate.
func (a *authority) issue(t testing.TB, domain string, change ...func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "a server"}, DNSNames: []string{domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(20 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, f := range change {
		f(tmpl)
	}
	c := sign(t, tmpl, a.cert, key, a.key)
	return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

// selfSigned is issued by nobody that anybody trusts.
func selfSigned(t testing.TB, domain string) *tls.Certificate {
	key := newKey(t)
	return (&authority{
		cert: &x509.Certificate{Subject: pkix.Name{CommonName: "a server"}}, key: key,
	}).issue(t, domain)
}

// network is what the boxes of a test are connected by.
type testNet struct {
	t      testing.TB
	ca     *authority
	mu     sync.Mutex
	boxes  map[string]*box // by ip:port
	hosts  int
	room   int  // of a connection, in bytes
	cut    bool // nobody can be connected to
	silent bool // boxes made from now on do not answer pings
	direct bool // boxes made from now on are connected to by direct TLS
	conns  []net.Conn
}

func newNet(t testing.TB) *testNet {
	return &testNet{t: t, ca: newAuthority(t), boxes: map[string]*box{}, room: 64 << 10}
}

// box is a server under test with a router that records.
type box struct {
	*Server
	net    *testNet
	addr   string
	ip     netip.Addr
	path   string // of the store
	gone   bool   // has no network
	direct bool
	router *xmpp.Router
	cert   func(name string) *tls.Certificate
	log    *strings.Builder

	mu  sync.Mutex
	got []received
}

type received struct {
	st   *xmpp.Stanza
	peer *xmpp.Peer
}

// box makes a box that serves domains, with a certificate for each, and a route to it for all others.
func (n *testNet) box(domains string, change ...func(*Options)) *box {
	n.t.Helper()
	n.hosts++
	return n.boxAt(netip.AddrFrom4([4]byte{10, 0, 0, byte(n.hosts)}), filepath.Join(n.t.TempDir(), "pibox.db"), domains, change...)
}

// boxAt is box for one that was there before, with its store.
func (n *testNet) boxAt(ip netip.Addr, path, domains string, change ...func(*Options)) *box {
	n.t.Helper()
	b := &box{net: n, direct: n.direct, ip: ip, path: path, log: &strings.Builder{}}
	b.addr = netip.AddrPortFrom(b.ip, 5269).String()
	list := strings.Fields(domains)
	certs := map[string]*tls.Certificate{}
	for _, d := range list {
		certs[d] = n.ca.issue(n.t, d)
	}
	b.cert = func(name string) *tls.Certificate { return certs[name] }
	st, err := store.Open(path, store.Options{Reserve: 1})
	if err != nil {
		n.t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(syncWriter{&sync.Mutex{}, b.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.router = xmpp.NewRouter(st, logger, list)
	opt := Options{
		TLS: &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := b.cert(h.ServerName); c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no certificate for %q", h.ServerName)
		}},
		Roots: n.ca.pool, Dial: b.dial, random: func(n int) int { return n / 2 },
	}
	opt.Routes = n.routes(b, list)
	for _, f := range change {
		f(&opt)
	}
	if b.Server, err = New(b.router, opt); err != nil {
		n.t.Fatal(err)
	}
	b.record()
	if !n.silent {
		b.answersPings()
	}
	n.mu.Lock()
	n.boxes[b.addr] = b
	n.mu.Unlock()
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("%s\n%s", domains, b.log)
		}
	})
	return b
}

// routes are a box's to the others; those get theirs to it.
func (n *testNet) routes(b *box, domains []string) (routes []Route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, o := range n.boxes {
		if addr == b.addr {
			continue
		}
		for _, d := range o.router.Domains() {
			routes = append(routes, Route{Domain: d, Address: addr, Direct: o.direct})
		}
		for _, d := range domains {
			if o.routes[d].host != b.ip.String() {
				o.routes[d] = target{host: b.ip.String(), port: 5269, direct: b.direct, route: true}
			}
		}
	}
	return routes
}

type syncWriter struct {
	mu *sync.Mutex
	b  *strings.Builder
}

func (w syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// stop ends a box: nothing of it may be left when the bubble ends.
func (b *box) stop() {
	b.net.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		b.net.t.Errorf("shutdown: %v", err)
	}
	if err := b.router.Store.Close(); err != nil {
		b.net.t.Error(err)
	}
}

// record takes everything that is addressed to the box.
func (b *box) record() {
	for _, c := range []xmpp.Class{xmpp.ToServer, xmpp.ToAccount, xmpp.ToResource, xmpp.ToNobody} {
		for _, k := range []xmpp.Kind{xmpp.Message, xmpp.Presence, xmpp.IQ} {
			b.router.Handle(xmpp.Key{Class: c, Kind: k, Type: "*"}, func(rq *xmpp.Request) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.got = append(b.got, received{rq.Stanza, rq.Peer})
				return nil
			})
		}
	}
}

// answersPings lets a box without stream management prove what it has.
func (b *box) answersPings() {
	b.router.Handle(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: "urn:xmpp:ping", Name: "ping"}, func(rq *xmpp.Request) error {
		rq.Reply(nil)
		return nil
	})
}

func (b *box) take() []received {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.got
	b.got = nil
	return g
}

// setCut says whether boxes can be connected to.
func (n *testNet) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// dial connects to another box of the net.
func (b *box) dial(_ context.Context, _, address string) (net.Conn, error) {
	b.net.mu.Lock()
	to, cut := b.net.boxes[address], b.net.cut
	room := b.net.room
	b.net.mu.Unlock()
	if cut || to == nil || b.gone {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	here := net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.ip, 40000))
	there := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to.addr))
	mine, theirs := pipe(room, here, there)
	b.net.mu.Lock()
	b.net.conns = append(b.net.conns, mine)
	b.net.mu.Unlock()
	to.accept(theirs, to.direct)
	return mine, nil
}

// says sends a message.
func (b *box) says(from, to, text string) {
	b.Send(message(from, to, text))
}

func message(from, to, text string) *xmpp.Stanza {
	return xmpp.Make(xmpp.NewXML("message").Attr("from", from).Attr("to", to).Attr("id", text).Leaf("body", "", text).Bytes())
}

// hears checks what arrived since the last look: ids of messages, errors as "id condition", with the proof of the peer.
func (b *box) hears(want ...string) {
	b.net.t.Helper()
	synctest.Wait()
	var have []string
	for _, g := range b.take() {
		s := g.st.ID
		if g.st.Type == "error" {
			e := g.st.Node().Child("", "error")
			s += " " + e.Children[0].Name
		}
		if g.peer != nil {
			s += map[xmpp.Proof]string{xmpp.ProofCertificate: " by certificate", xmpp.ProofDialback: " by dialback"}[g.peer.Proof]
		}
		have = append(have, s)
	}
	if strings.Join(have, "; ") != strings.Join(want, "; ") {
		b.net.t.Errorf("%s heard %q, expected %q", b.router.Domains()[0], have, want)
	}
}
