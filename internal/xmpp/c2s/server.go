// Package c2s is the way in for clients: RFC 6120 (streams, STARTTLS, SASL, resource binding), XEP-0368 (direct TLS), XEP-0440 (channel
// binding types announced), XEP-0198 (stream management, with resumption), XEP-0352
// (client state).
//
// A connection has one goroutine that reads, negotiates and hands what is complete to the router, and an outbox that whoever has something
// for the client puts it into; a second goroutine lives only while the outbox holds something. The reading goroutine alone ends the
// connection: everybody else asks it to (conn.end).
//
// Invariants: nothing is read as a stanza before TLS, authentication and binding are done; no lock is held while a socket is read or
// written; a client is never waited for, but by its own reader.
package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/sasl"
	"pibox/internal/xmpp/throttle"
)

// Accounts is what logging in has to know.
type Accounts interface {
	// Credentials finds what a user name, as a client sent it, stands for at a domain of ours. The name in the answer is the bare
	// JID, also of an account that does not exist.
	Credentials(username, domain string) (sasl.Account, error)
	// Unusable names the mechanisms, without -PLUS, that must not be offered on a stream of somebody, by the bare JID that the stream names, or of
	// anybody at the domain, where it names none: accounts that came from another server may have keys for one mechanism only.
	// It does not fail: where the accounts can not be read, the login says so.
	Unusable(who xmpp.JID, domain string) []string
	// Secret makes up salts for accounts that do not exist; the same over restarts, sasl.MinSecret bytes or more.
	Secret() []byte
}

// Config is what a Server is made of.
type Config struct {
	Router   *xmpp.Router
	Accounts Accounts
	// OnLogin is told of each login whose password was right, before the client is; a *sasl.Failure refuses it. May be nil.
	OnLogin func(account xmpp.JID) error
	// TLS chooses the certificate by hello.ServerName, which is filled in from the stream header where a client sent none.
	TLS *tls.Config
	// Logins slows guessing; nil is throttle.DefaultLimits.
	Logins  *throttle.Logins
	Log     *slog.Logger
	Options Options
}

// Server takes connections of clients.
type Server struct {
	router   *xmpp.Router
	accounts Accounts
	onLogin  func(xmpp.JID) error
	starttls *tls.Config
	direct   *tls.Config
	logins   *throttle.Logins
	log      *slog.Logger
	opt      Options
	outbox   *outboxConfig
	perAddr  *throttle.Connections
	waiting  *throttle.Connections // not logged in yet
	refusing chan struct{}         // connections that are being told that they are too many
	streams  streams
	lastID   atomic.Uint64
	// endingLost: somebody ends sessions without a connection.
	endingLost atomic.Bool

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	stopping  bool
	saved     []*link // by Shutdown
	running   sync.WaitGroup
}

// New makes a server and registers with the router what a bound client may ask of it.
func New(c Config) *Server {
	o := c.Options.orDefault()
	s := &Server{
		router: c.Router, accounts: c.Accounts, onLogin: c.OnLogin, logins: c.Logins, log: c.Log, opt: o,
		outbox:    &outboxConfig{limit: o.SendQueue, kept: o.ResumeQueue, held: o.HoldQueue, timeout: o.WriteTimeout},
		perAddr:   throttle.NewConnections(o.ConnectionsPerAddress),
		waiting:   throttle.NewConnections(o.UnauthenticatedPerAddress),
		refusing:  make(chan struct{}, 16),
		streams:   streams{links: map[string]*link{}},
		conns:     map[*conn]struct{}{},
		listeners: map[net.Listener]struct{}{},
	}
	if s.logins == nil {
		s.logins = throttle.NewLogins(throttle.DefaultLimits(), time.Now)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.starttls = serverTLS(c.TLS)
	s.direct = serverTLS(c.TLS)
	s.direct.NextProtos = []string{"xmpp-client"} // XEP-0368 §3
	s.registerHandlers()
	return s
}

// Serve takes connections from a listener until ctx ends or Shutdown is called, and then returns nil. direct: TLS from the first byte.
func (s *Server) Serve(ctx context.Context, ln net.Listener, direct bool) error {
	if !s.listening(ln) {
		return ln.Close()
	}
	defer s.notListening(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			go s.ServeConn(nc, direct)
			continue
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if s.isStopping() || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("c2s: listening on %s: %w", ln.Addr(), err)
		}
		// Too many open files, or a connection that was gone already: neither is a reason to stop.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Warn("accepting a client failed", "listener", ln.Addr().String(), "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (s *Server) listening(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.listeners[ln] = struct{}{}
	}
	return !s.stopping
}

func (s *Server) notListening(ln net.Listener) {
	_ = ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// ServeConn serves one connection until it is over. direct: TLS from the first byte.
func (s *Server) ServeConn(nc net.Conn, direct bool) {
	c := s.newConn(nc, direct)
	if !s.perAddr.Acquire(c.addr) {
		s.refuse(c, "too many connections from this address")
		return
	}
	if !s.waiting.Acquire(c.addr) {
		s.perAddr.Release(c.addr)
		s.refuse(c, "too many connections from this address that have not logged in")
		return
	}
	if full, stopping := s.enter(c); full || stopping {
		s.waiting.Release(c.addr)
		s.perAddr.Release(c.addr)
		if stopping {
			_ = nc.Close()
			return
		}
		s.refuse(c, "too many connections")
		return
	}
	c.serve()
}

func (s *Server) enter(c *conn) (full, stopping bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	full, stopping = len(s.conns) >= s.opt.Connections, s.stopping
	if !full && !stopping {
		s.conns[c] = struct{}{}
		s.running.Add(1)
	}
	return full, stopping
}

func (s *Server) leave(c *conn) {
	s.perAddr.Release(c.addr)
	c.noLongerWaiting()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// refuse tells a connection that it is one too many. Only a few are told at a time, and no TLS is done for it: it must cost next to nothing.
func (s *Server) refuse(c *conn, why string) {
	s.log.Warn("client connection refused", "conn", c.id, "address", c.addr.String(), "reason", why)
	defer func() { _ = c.net.Close() }()
	select {
	case s.refusing <- struct{}{}:
		defer func() { <-s.refusing }()
	default:
		return
	}
	if c.direct {
		return
	}
	by := time.Now().Add(lingerTime)
	_ = c.net.SetDeadline(by)
	se := &xmpp.StreamError{Condition: "resource-constraint", Text: why}
	if _, err := c.net.Write(append(c.header(), closing(se)...)); err == nil {
		c.linger(by)
	}
}

// lastTime leaves enough of the 5 s to save sessions.
const lastTime = 3 * time.Second

// Shutdown ends all streams with system-shutdown, and takes no new ones. It returns when all are closed, or when ctx ends, with the rest
// cut off; at the latest after 5 s. Before sessions are saved, last (may be nil) ends whatever else could still bring something for them, within its ctx.
func (s *Server) Shutdown(ctx context.Context, last func(context.Context)) error {
	s.mu.Lock()
	s.stopping = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.end(&xmpp.StreamError{Condition: "system-shutdown", Text: "the box is being stopped"})
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.mu.Lock()
		for c := range s.conns {
			_ = c.raw.Close()
		}
		s.mu.Unlock()
	}
	err := ctx.Err()
	if last != nil {
		bounded, cancel := context.WithTimeout(ctx, lastTime)
		last(bounded)
		cancel()
	}
	return errors.Join(err, s.save(ctx))
}

// addrOf is the address that limits count by; the zero Addr for what is no TCP connection.
func addrOf(nc net.Conn) netip.Addr {
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}
