package s2s

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

const (
	maxTargets   = 8 // hosts tried for one domain
	maxAddresses = 8 // of one host
	stagger      = 250 * time.Millisecond
)

// target is a place where a domain's server may be found.
type target struct {
	host   string // a name in A-labels or an IP address
	port   uint16
	direct bool // TLS from the first byte (XEP-0368)
	route  bool // fixed by the configuration
	srv    *dns.SRV
}

// targets finds out where a domain's server is: the configured route, else SRV, else the domain's own addresses (RFC 6120 §3.2).
func (s *Server) targets(ctx context.Context, domain string) ([]target, error) {
	if t, ok := s.routes[domain]; ok {
		return []target{t}, nil
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return nil, &lookupError{name: domain, notFound: true}
	}
	var direct, plain []dns.RR
	var errDirect, errPlain error
	var wg sync.WaitGroup
	wg.Go(func() { direct, errDirect = s.resolver.lookup(ctx, "_xmpps-server._tcp."+ascii+".", dns.TypeSRV) })
	wg.Go(func() { plain, errPlain = s.resolver.lookup(ctx, "_xmpp-server._tcp."+ascii+".", dns.TypeSRV) })
	wg.Wait()
	list := append(services(direct, true), services(plain, false)...)
	switch {
	case len(list) > 0:
		list = sortTargets(list, s.opt.random)
		return list[:min(len(list), maxTargets)], nil
	case len(direct)+len(plain) > 0: // every service is "."
		return nil, &lookupError{name: domain, notFound: true}
	}
	// RFC 6120 §3.2.2, also when the SRV questions were not answered. Whether the name exists is told when its addresses are asked for.
	if !isNotFound(errPlain) || !isNotFound(errDirect) {
		if _, err := s.resolver.addresses(ctx, ascii); err != nil {
			return nil, cmp.Or(temporary(errPlain), temporary(errDirect))
		}
	}
	return []target{{host: ascii, port: 5269}}, nil
}

func temporary(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

func services(records []dns.RR, direct bool) []target {
	var list []target
	for _, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok || srv.Target == "." || srv.Port == 0 { // RFC 2782: "." is not available here
			continue
		}
		list = append(list, target{host: dns.CanonicalName(srv.Target), port: srv.Port, direct: direct, srv: srv})
	}
	return list
}

// sortTargets orders by priority, and by weighted chance among those of one priority (RFC 2782), both services together (XEP-0368 §3).
func sortTargets(list []target, random func(n int) int) []target {
	// Those of weight 0 stand first, so that they have a small chance; among equals the order must not depend on the answer's.
	for i := len(list) - 1; i > 0; i-- {
		j := random(i + 1)
		list[i], list[j] = list[j], list[i]
	}
	slices.SortStableFunc(list, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.srv.Priority, b.srv.Priority), cmp.Compare(min(a.srv.Weight, 1), min(b.srv.Weight, 1)))
	})
	for i := range list {
		same := list[i:]
		for j := range same {
			if same[j].srv.Priority != same[0].srv.Priority {
				same = same[:j]
				break
			}
		}
		pick := pickWeighted(same, random)
		chosen := same[pick]
		copy(same[1:pick+1], same[:pick])
		same[0] = chosen
	}
	return list
}

func pickWeighted(list []target, random func(n int) int) int {
	sum := 0
	for _, t := range list {
		sum += int(t.srv.Weight)
	}
	r := random(sum + 1)
	for i, t := range list {
		if r -= int(t.srv.Weight); r <= 0 {
			return i
		}
	}
	return len(list) - 1
}

// dial connects to a target: to its addresses one after the other, each a little after the one before, and the first that answers wins
// (RFC 8305 §5).
func (s *Server) dial(ctx context.Context, t target) (net.Conn, error) {
	port := strconv.Itoa(int(t.port))
	if _, err := netip.ParseAddr(t.host); err == nil || t.route {
		ctx, cancel := context.WithTimeout(ctx, s.opt.ConnectTimeout)
		defer cancel()
		return s.opt.Dial(ctx, "tcp", net.JoinHostPort(t.host, port))
	}
	addrs, err := s.resolver.addresses(ctx, t.host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result)
	try := func(a netip.Addr) {
		attempt, cancel := context.WithTimeout(ctx, s.opt.ConnectTimeout)
		defer cancel()
		conn, err := s.opt.Dial(attempt, "tcp", net.JoinHostPort(a.String(), port))
		select {
		case results <- result{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close()
			}
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for started := 0; len(errs) < len(addrs); {
		select {
		case <-next.C:
			if started < len(addrs) {
				go try(addrs[started])
				started++
				next.Reset(stagger)
			}
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			errs = append(errs, r.err)
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
	}
	return nil, errors.Join(errs...)
}
