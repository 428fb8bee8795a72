package box

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/reach"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/c2s"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/s2s"
	"pibox/internal/xmpp/throttle"
)

// service is a box with its listeners.
type service struct {
	box       *Box
	certs     *reach.Certificates
	clients   *c2s.Server
	servers   *s2s.Server // nil where other servers are not talked to
	listeners []listener
}

type listener struct {
	name   string
	direct bool
	s2s    bool
	net.Listener
}

// open makes certificates and servers and opens the listeners; nothing is accepted yet.
func (b *Box) open() (s *service, err error) {
	s = &service{box: b}
	defer func() {
		if err != nil {
			s.closeListeners()
		}
	}()
	if s.certs, err = b.certificates(); err != nil {
		return nil, err
	}
	s.clients = c2s.New(c2s.Config{
		Router: b.Router, Accounts: b.Accounts, OnLogin: b.Accounts.LoggedIn, TLS: b.tlsConfig(s.certs), Log: b.log, Options: b.clientOptions(),
		Logins: throttle.NewLogins(b.loginLimits(), time.Now),
	})
	if b.cfg.S2S.Enabled {
		if s.servers, err = b.otherServers(s.certs); err != nil {
			return nil, err
		}
		b.Router.SetRemote(s.servers)
	}
	return s, s.listen()
}

func (b *Box) certificates() (*reach.Certificates, error) {
	files := map[string]reach.Files{}
	for _, c := range b.cfg.TLS.Certificates {
		files[c.Domain] = reach.Files{Chain: c.Chain, Key: c.Key}
	}
	return reach.Open(reach.Config{Dir: filepath.Join(b.cfg.DataDir, "tls"), Domains: b.Router.Domains(), Files: files, Log: b.log})
}

func (b *Box) tlsConfig(certs *reach.Certificates) *tls.Config {
	c := certs.TLSConfig()
	if b.cfg.TLS.MinVersion == "1.3" {
		c.MinVersion = tls.VersionTLS13
	}
	return c
}

func (b *Box) loginLimits() throttle.Limits {
	c, l := b.cfg.Login, throttle.DefaultLimits()
	l.Pair = throttle.Threshold{Free: c.PairFree, Refuse: c.PairRefuse}
	l.Address = throttle.Threshold{Free: c.AddressFree, Refuse: c.AddressRefuse}
	l.Account = throttle.Threshold{Free: c.PairFree}
	l.Delay, l.MaxDelay, l.Forget, l.Trust = c.Delay.D(), c.MaxDelay.D(), c.Forget.D(), c.Trust.D()
	return l
}

func (b *Box) clientOptions() c2s.Options {
	c := b.cfg.C2S
	return c2s.Options{
		Conflict:          xmpp.ConflictPolicy(c.Conflict),
		StanzaBeforeLogin: int(c.StanzaBeforeLogin), Stanza: int(c.Stanza),
		Depth: b.cfg.Limits.Depth, Attributes: b.cfg.Limits.Attributes, Children: b.cfg.Limits.Children,
		StanzaRate: c.StanzaRate, StanzaBurst: c.StanzaBurst, ByteRate: int(c.ByteRate), ByteBurst: int(c.ByteBurst),
		AuthTimeout: c.AuthTimeout.D(), Connections: c.Connections, ConnectionsPerAddress: c.ConnectionsPerAddress,
		UnauthenticatedPerAddress: c.UnauthenticatedPerAddr, ResourcesPerAccount: c.ResourcesPerAccount,
		SendQueue: int(c.SendQueue), WriteTimeout: c.WriteTimeout.D(), Keepalive: c.Keepalive.D(), DeadAfter: c.DeadAfter.D(), TCPKeepalive: c.TCPKeepalive.D(),
		ResumeTimeout: c.ResumeTimeout.D(), ResumeQueue: int(c.ResumeQueue), ResumeTotal: int(c.ResumeTotal), HoldQueue: int(c.HoldQueue),
	}
}

func (b *Box) otherServers(certs *reach.Certificates) (*s2s.Server, error) {
	c := b.cfg.S2S
	roots, err := trusted(c)
	if err != nil {
		return nil, err
	}
	var routes []s2s.Route
	for _, r := range c.Routes {
		routes = append(routes, s2s.Route{Domain: r.Domain, Address: r.Address, Direct: r.TLS == "direct"})
	}
	return s2s.New(b.Router, s2s.Options{
		TLS: b.tlsConfig(certs), Roots: roots, Routes: routes, Resolver: b.cfg.DNS.Server, DNSTimeout: b.cfg.DNS.Timeout.D(),
		Allow: c.Allow, Deny: c.Deny, Dialback: c.Dialback, DialbackDomains: c.DialbackDomains, Secret: b.Accounts.Secret(),
		Shape:  frame.Limits{Depth: b.cfg.Limits.Depth, Attrs: b.cfg.Limits.Attributes, Children: b.cfg.Limits.Children},
		Stanza: int(c.Stanza), StanzaRate: c.StanzaRate, ByteRate: int(c.ByteRate),
		AuthTimeout: c.AuthTimeout.D(), ConnectTimeout: c.ConnectTimeout.D(),
		Connections: c.Connections, ConnectionsPerAddress: c.ConnectionsPerAddress, IdleTimeout: c.IdleTimeout.D(),
		Keepalive: c.Keepalive.D(), DeadAfter: c.DeadAfter.D(), WriteTimeout: c.WriteTimeout.D(),
		QueueBytes: int(c.QueueBytes), QueueTotal: int(c.QueueTotal), QueueTime: c.QueueTime.D(), DurableTime: c.DurableTime.D(), DurableBytes: int(c.DurableBytes), Log: b.log,
	})
}

// trusted gives the authorities that vouch for other servers. Those of this machine are read when the first server is to be verified: they take 4 MB
// and 30 ms, and many a box never needs them.
func trusted(c config.S2S) (func() *x509.CertPool, error) {
	var files [][]byte
	for _, path := range c.Trust {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
		}
		files = append(files, pem)
	}
	return sync.OnceValue(func() *x509.CertPool {
		roots := x509.NewCertPool()
		if c.SystemRoot {
			if sys, err := x509.SystemCertPool(); err == nil {
				roots = sys
			}
		}
		for _, pem := range files {
			roots.AppendCertsFromPEM(pem)
		}
		return roots
	}), nil
}

// listen opens every listener, or tells of every one that can not be opened.
func (s *service) listen() error {
	cfg := s.box.cfg
	endpoints := []endpoint{
		{name: "c2s", who: "clients", key: "c2s.listen", addresses: cfg.C2S.Listen},
		{name: "c2s-tls", who: "clients, direct TLS", key: "c2s.listen_tls", addresses: cfg.C2S.ListenTLS, direct: true},
	}
	if s.servers != nil {
		endpoints = append(endpoints,
			endpoint{name: "s2s", who: "other servers", key: "s2s.listen", addresses: cfg.S2S.Listen, s2s: true},
			endpoint{name: "s2s-tls", who: "other servers, direct TLS", key: "s2s.listen_tls", addresses: cfg.S2S.ListenTLS, direct: true, s2s: true})
	}
	var errs error
	for _, e := range endpoints {
		for _, address := range e.addresses {
			ln, err := e.listen(address)
			if err != nil {
				errs = errors.Join(errs, err)
				continue
			}
			s.listeners = append(s.listeners, listener{e.name, e.direct, e.s2s, ln})
		}
	}
	return errs
}

func (s *service) closeListeners() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// run accepts connections until ctx ends or a listener fails, then ends all streams, within 5 s, and closes the store.
func (s *service) run(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.clients.Restore(); err != nil {
		log.Error("clients have to log in anew", "error", err)
	}
	var wg sync.WaitGroup
	for _, l := range s.listeners {
		serve := func(ctx context.Context, l listener) error { return s.clients.Serve(ctx, l.Listener, l.direct) }
		if l.s2s {
			serve = func(_ context.Context, l listener) error { return s.servers.Serve(l.Listener, l.direct) }
		}
		wg.Go(func() {
			if err := serve(ctx, l); err != nil {
				cancel(err)
			}
		})
	}
	err := s.box.Start()
	if err == nil {
		if s.servers != nil {
			s.servers.Start()
		}
		<-ctx.Done()
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			err = nil
		}
	}
	s.shutdown(log)
	cancel(nil)
	wg.Wait()
	return errors.Join(err, s.box.Close())
}

// shutdown: the clients' good-byes go to other servers before those streams end, and what other servers brought until then is in the sessions that
// are saved.
func (s *service) shutdown(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	servers := func(ctx context.Context) {
		if s.servers == nil {
			return
		}
		if err := s.servers.Shutdown(ctx); err != nil {
			log.Warn("other servers were cut off", "error", err)
		}
	}
	if err := s.clients.Shutdown(ctx, servers); err != nil {
		log.Warn("clients were cut off", "error", err)
	}
	if err := s.clients.DropIncomplete(); err != nil {
		log.Warn("sessions may miss something", "error", err)
	}
}

// authorityPath is the file that clients and other families may trust; "" where every certificate comes from elsewhere.
func (s *service) authorityPath() string {
	return filepath.Join(s.box.cfg.DataDir, "tls", "authority.pem")
}

func (s *service) addresses() []admin.ListenAddress {
	var out []admin.ListenAddress
	for _, l := range s.listeners {
		out = append(out, admin.ListenAddress{Service: l.name, Address: l.Addr().String()})
	}
	slices.SortFunc(out, func(a, b admin.ListenAddress) int { return strings.Compare(a.Service+a.Address, b.Service+b.Address) })
	return out
}
