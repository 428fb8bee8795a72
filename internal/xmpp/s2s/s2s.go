// Package s2s talks with other servers: RFC 6120 between servers, with SASL EXTERNAL (XEP-0178), dialback (XEP-0220, XEP-0185), direct TLS
// (XEP-0368) and streams that carry both directions (XEP-0288). Nothing but the beginning of STARTTLS is ever sent without TLS.
//
// A link per pair of an own and a foreign domain queues what goes out; a goroutine of its own connects and writes, while there is
// something to write. What is stored is owed (durable.go): the store's log is its queue, and a cursor for each pair tells what arrived, by stream
// management (XEP-0198) or, where the peer does not do it, by the answer to a ping. What may have arrived already says so when it is
// sent again (xmpp.NSRelayed). A stream is one connection, whoever opened it: one goroutine reads it and owns all that is known about the peer; others
// reach that goroutine by post. Writers take turns; each write has a deadline. The server's lock is never held over I/O or a call of the router.
package s2s

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/throttle"
)

// Namespaces.
const (
	nsDialback        = "jabber:server:dialback"
	nsDialbackFeature = "urn:xmpp:features:dialback"
	nsBidi            = "urn:xmpp:bidi"
	nsBidiFeature     = "urn:xmpp:features:bidi"
	nsSASL            = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsTLS             = "urn:ietf:params:xml:ns:xmpp-tls"
)

// Route is the fixed place of a domain's server.
type Route struct {
	Domain  string
	Address string // host:port
	Direct  bool   // TLS from the first byte instead of STARTTLS
}

// Options of a Server. Zero fields have the defaults that are told here; TLS is required.
type Options struct {
	// TLS holds MinVersion (at least 1.2 is used) and GetCertificate, which is called with one of our domains, in A-labels, as ServerName
	// (or what a peer asked for), also for the certificate that we show as a client.
	TLS *tls.Config
	// Roots gives the authorities that are trusted; nil of them are the system's, which is the default. It is called when they are
	// needed, by any goroutine: reading the system's takes megabytes and milliseconds.
	Roots func() *x509.CertPool
	// Routes take precedence over the DNS.
	Routes []Route
	// Resolver is the host:port of the name server to ask. Default those in /etc/resolv.conf.
	Resolver string
	// DNSTimeout bounds one question. Default 10 s.
	DNSTimeout time.Duration
	// Allow, when not empty, are the domains that are talked with, Deny those that are not; "*.example.org" stands for what is below it.
	Allow, Deny []string
	// Dialback lets dialback vouch for any domain whose certificate does not; DialbackDomains for these.
	Dialback        bool
	DialbackDomains []string
	// Secret makes dialback keys. Default random: keys then do not outlive the process.
	Secret []byte
	// Shape bounds elements but for their size. Default that of package frame.
	Shape frame.Limits
	// Stanza is the largest stanza that is accepted, in bytes. Default 512 KiB. Before authentication it is 10 kB.
	Stanza int
	// StanzaRate and ByteRate bound what one connection may send per second; a faster one is read more slowly. Default 500 and 4 MiB.
	StanzaRate, ByteRate int
	// AuthTimeout bounds the time until a connection is authenticated, in either direction. Default 60 s.
	AuthTimeout time.Duration
	// ConnectTimeout bounds one attempt to reach one address. Default 20 s.
	ConnectTimeout time.Duration
	// Connections and ConnectionsPerAddress (IPv6: per /64) bound incoming connections. Default 1000 and 50.
	Connections, ConnectionsPerAddress int
	// Links bounds the pairs of domains that are sent to at the same time. Default 1000.
	Links int
	// IdleTimeout ends a stream that carried no stanza for so long. Default 30 min.
	IdleTimeout time.Duration
	// Keepalive is the silence after which white space is sent. Default 3 min.
	Keepalive time.Duration
	// DeadAfter is how long sent bytes may stay unacknowledged by the peer's TCP. Default 60 s.
	DeadAfter time.Duration
	// WriteTimeout bounds one write. Default 60 s.
	WriteTimeout time.Duration
	// QueueBytes bounds what waits for one pair of domains, QueueTotal what waits for all, in bytes. Default 1 MiB and 16 MiB.
	QueueBytes, QueueTotal int
	// QueueTime is how long a stanza may wait before it comes back. Default 120 s.
	QueueTime time.Duration
	// DurableTime is QueueTime for stored stanzas. Default 3 days.
	DurableTime time.Duration
	// DurableBytes bounds what one sender has stored for other servers, in bytes: each of his messages with 256 more. It may be exceeded by what is
	// committed at once. Default 32 MiB.
	DurableBytes int
	// AckTimeout is how long the peer may take to acknowledge anything of what it was sent before the stream is given up. Default 2 min.
	AckTimeout time.Duration
	// ResumeTime is for how long a stream that was lost may be resumed (XEP-0198 §5). Default 1 h.
	ResumeTime time.Duration
	// Log. Default the router's.
	Log *slog.Logger
	// Dial connects. Default a net.Dialer that asks Resolver for names.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	random       func(n int) int // 0 ≤ random(n) < n
	queueStanzas int             // owed stanzas of one pair that are kept in memory
	withoutSM    bool            // XEP-0198 is neither offered nor used
}

// unauthenticated is RFC 6120 §13.12.
const unauthenticated = 10_000

func (o Options) withDefaults(router *xmpp.Router) Options {
	number := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	span := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	number(&o.Stanza, 512<<10)
	number(&o.StanzaRate, 500)
	number(&o.ByteRate, 4<<20)
	number(&o.Connections, 1000)
	number(&o.ConnectionsPerAddress, 50)
	number(&o.Links, 1000)
	number(&o.QueueBytes, 1<<20)
	number(&o.QueueTotal, 16<<20)
	number(&o.DurableBytes, 32<<20)
	number(&o.queueStanzas, 1000)
	span(&o.DNSTimeout, 10*time.Second)
	span(&o.AuthTimeout, 60*time.Second)
	span(&o.ConnectTimeout, 20*time.Second)
	span(&o.IdleTimeout, 30*time.Minute)
	span(&o.Keepalive, 3*time.Minute)
	span(&o.DeadAfter, 60*time.Second)
	span(&o.WriteTimeout, 60*time.Second)
	span(&o.QueueTime, 120*time.Second)
	span(&o.DurableTime, 3*24*time.Hour)
	span(&o.AckTimeout, 2*time.Minute)
	span(&o.ResumeTime, time.Hour)
	if o.Log == nil {
		o.Log = router.Log
	}
	if len(o.Secret) == 0 {
		o.Secret = []byte(rand.Text())
	}
	if o.Roots == nil {
		o.Roots = func() *x509.CertPool { return nil }
	}
	if o.Dial == nil {
		o.Dial = dialer(o.Resolver)
	}
	if o.random == nil {
		o.random = mrand.IntN
	}
	return o
}

func dialer(server string) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{}
	if server != "" {
		d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}}
	}
	return d.DialContext
}

// pair is a domain of ours and one of somebody else, prepared.
type pair struct{ local, remote string }

// Server is the box's way to other servers. It implements [xmpp.DurableRemote].
type Server struct {
	opt      Options
	router   *xmpp.Router
	log      *slog.Logger
	policy   policy
	resolver *resolver
	routes   map[string]target
	earlier  uint64 // the last entry of the log that an earlier run may have sent

	ctx        context.Context // ends when everything is to stop at once
	kill       context.CancelFunc
	connecting context.Context // ends when no connection is to be opened any more
	noConnect  context.CancelFunc
	wg         sync.WaitGroup

	mu        sync.Mutex
	stopping  bool
	lastID    int
	links     map[pair]*link
	queued    int                    // bytes in all links
	dues      dues                   // of all links
	resumable map[string]*management // by SM-ID; peers may resume them
	pings     map[string]*ping       // by id
	cursors   *time.Timer            // writes what arrived to the store
	lost      uint64                 // see Lost
	streams   map[*stream]bool
	listeners []net.Listener
	inbound   int
	perAddr   *throttle.Connections
}

// New makes a Server and tells the router that it carries stanzas from now on.
func New(router *xmpp.Router, opt Options) (*Server, error) {
	if opt.TLS == nil {
		return nil, errors.New("s2s: a TLS configuration is needed")
	}
	opt = opt.withDefaults(router)
	s := &Server{
		opt: opt, router: router, log: opt.Log, resolver: newResolver(opt.Resolver, opt.DNSTimeout), routes: map[string]target{},
		links: map[pair]*link{}, dues: dues{}, resumable: map[string]*management{}, pings: map[string]*ping{}, streams: map[*stream]bool{}, perAddr: throttle.NewConnections(opt.ConnectionsPerAddress),
	}
	var err error
	if s.policy, err = newPolicy(router.IsLocal, opt); err != nil {
		return nil, err
	}
	for _, r := range opt.Routes {
		if err := s.addRoute(r); err != nil {
			return nil, err
		}
	}
	s.ctx, s.kill = context.WithCancel(context.Background())
	s.connecting, s.noConnect = context.WithCancel(s.ctx)
	if err := s.load(); err != nil {
		return nil, err
	}
	router.SetRemote(s)
	return s, nil
}

func (s *Server) addRoute(r Route) error {
	domain, err := xmpp.ParseJID(r.Domain)
	host, port, addrErr := net.SplitHostPort(r.Address)
	n, numErr := strconv.ParseUint(port, 10, 16)
	if err = errors.Join(err, addrErr, numErr); err != nil || domain != domain.Host() || host == "" || n == 0 {
		return fmt.Errorf("s2s: a route needs a domain and an address like 192.0.2.7:5269, not %q and %q", r.Domain, r.Address)
	}
	s.routes[domain.Domain] = target{host: host, port: uint16(n), direct: r.Direct, route: true}
	return nil
}

// Serve accepts connections until Shutdown; direct says that TLS begins with the first byte. It returns nil after Shutdown.
func (s *Server) Serve(l net.Listener, direct bool) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		if err == nil {
			pause = 0
			s.accept(conn, direct)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.connecting.Err() != nil {
			return nil
		}
		// Too many open files and the like pass.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Error("accepting a connection of another server", "error", err)
		select {
		case <-time.After(pause):
		case <-s.connecting.Done():
			return nil
		}
	}
}

// accept takes an incoming connection, if the limits allow.
func (s *Server) accept(conn net.Conn, direct bool) {
	from := address(conn)
	s.mu.Lock()
	var refusal *xmpp.StreamError
	switch {
	case s.stopping:
		refusal = &xmpp.StreamError{Condition: "system-shutdown"}
	case s.inbound >= s.opt.Connections:
		refusal = &xmpp.StreamError{Condition: "resource-constraint", Text: "too many connections"}
	case !s.perAddr.Acquire(from):
		refusal = &xmpp.StreamError{Condition: "policy-violation", Text: "too many connections from this address"}
	default:
		s.inbound++
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if refusal != nil {
		s.refuse(conn, direct, refusal)
		return
	}
	go func() {
		defer s.wg.Done()
		s.serve(conn, direct)
		s.perAddr.Release(from)
		s.mu.Lock()
		s.inbound--
		s.mu.Unlock()
	}()
}

// refuse says why, as far as that costs nothing: what fits into the socket's empty buffer.
func (s *Server) refuse(conn net.Conn, direct bool, why *xmpp.StreamError) {
	s.log.Warn("a connection of another server is refused", "address", conn.RemoteAddr().String(), "reason", why.Condition, "text", why.Text)
	if !direct {
		_ = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		b := appendHeader(nil, s.router.Domains()[0], "", rand.Text())
		_, _ = conn.Write(append(append(b, why.XML()...), streamEnd...))
	}
	_ = conn.Close()
}

func address(conn net.Conn) netip.Addr {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return ap.Addr()
}

// connID numbers connections for the log.
func (s *Server) connID(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	return kind + "-" + strconv.Itoa(s.lastID)
}
