package s2s

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what the resolver keeps and does.
const (
	maxCached  = 1024 // answers
	minTTL     = 5 * time.Second
	maxTTL     = time.Hour
	maxNegTTL  = 5 * time.Minute // RFC 2308 §5 allows more; a family that repairs its DNS does not wait
	maxAliases = 8               // CNAMEs in a row
)

// resolver asks recursive name servers and keeps their answers for as long as their TTL says.
type resolver struct {
	server  string        // host:port; "" stands for the name servers in conf
	conf    string        // resolv.conf(5), read anew for each question: the network may change
	timeout time.Duration // of one question, repeats included

	exchange func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error)

	mu    sync.Mutex
	cache map[dns.Question]cached
}

type cached struct {
	records []dns.RR
	err     error
	until   time.Time
}

// lookupError is why a name has no usable records.
type lookupError struct {
	name     string
	notFound bool // the name, or such records of it, do not exist
	err      error
}

func (e *lookupError) Error() string {
	if e.notFound {
		return e.name + " has no such record in the DNS"
	}
	return fmt.Sprintf("asking the DNS for %s: %v", e.name, e.err)
}

func (e *lookupError) Unwrap() error { return e.err }

func isNotFound(err error) bool {
	var le *lookupError
	return errors.As(err, &le) && le.notFound
}

func newResolver(server string, timeout time.Duration) *resolver {
	return &resolver{server: server, conf: "/etc/resolv.conf", timeout: timeout, exchange: exchange, cache: map[dns.Question]cached{}}
}

// exchange asks over UDP, and over TCP when the answer did not fit (RFC 7766 §5). A new socket per question has a new random port.
func exchange(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	udp := dns.Client{Net: "udp", UDPSize: 1232}
	m, _, err := udp.ExchangeContext(ctx, q, server)
	if err != nil || !m.Truncated {
		return m, err
	}
	tcp := dns.Client{Net: "tcp"}
	m, _, err = tcp.ExchangeContext(ctx, q, server)
	return m, err
}

// lookup gives the records of a type that a name has, through its aliases. The error is a *lookupError.
func (r *resolver) lookup(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	q := dns.Question{Name: dns.CanonicalName(name), Qtype: qtype, Qclass: dns.ClassINET}
	r.mu.Lock()
	c, ok := r.cache[q]
	r.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.records, c.err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	c = r.follow(ctx, q)
	if c.err == nil || isNotFound(c.err) {
		r.keep(q, c)
	}
	return c.records, c.err
}

func (r *resolver) keep(q dns.Question, c cached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= maxCached {
		now := time.Now()
		for old, o := range r.cache {
			if now.After(o.until) {
				delete(r.cache, old)
			}
		}
		for old := range r.cache {
			if len(r.cache) < maxCached {
				break
			}
			delete(r.cache, old)
		}
	}
	r.cache[q] = c
}

// follow asks, and asks on where a server gave an alias without what it stands for.
func (r *resolver) follow(ctx context.Context, q dns.Question) cached {
	ttl := maxTTL
	for range maxAliases {
		m, err := r.ask(ctx, q)
		if err != nil {
			return cached{err: &lookupError{name: q.Name, err: err}}
		}
		records, end := unalias(m.Answer, &q, &ttl)
		if len(records) > 0 {
			return cached{records, nil, time.Now().Add(max(ttl, minTTL))}
		}
		if end || m.Rcode == dns.RcodeNameError {
			return cached{nil, &lookupError{name: q.Name, notFound: true}, time.Now().Add(negativeTTL(m))}
		}
	}
	return cached{err: &lookupError{name: q.Name, err: errors.New("too many aliases")}}
}

// unalias walks an answer's aliases from q.Name on, leaves the last name there, and gives its records. end tells that there was no alias.
func unalias(answer []dns.RR, q *dns.Question, ttl *time.Duration) (records []dns.RR, end bool) {
	end = true
	for range maxAliases {
		alias := ""
		for _, rr := range answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != q.Name {
				continue
			}
			c, isAlias := rr.(*dns.CNAME)
			switch {
			case h.Rrtype == q.Qtype:
				records = append(records, rr)
			case isAlias:
				alias = dns.CanonicalName(c.Target)
			default:
				continue
			}
			*ttl = min(*ttl, time.Duration(h.Ttl)*time.Second)
		}
		if len(records) > 0 || alias == "" {
			return records, end
		}
		q.Name, end = alias, false
	}
	return nil, end
}

// negativeTTL is RFC 2308 §5: the lesser of the SOA's own TTL and its minimum.
func negativeTTL(m *dns.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(max(time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second, minTTL), maxNegTTL)
		}
	}
	return minTTL
}

// ask puts one question to each name server in turn, twice.
func (r *resolver) ask(ctx context.Context, q dns.Question) (*dns.Msg, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, err
	}
	for range 2 {
		for _, server := range servers {
			each, cancel := context.WithTimeout(ctx, r.timeout/time.Duration(2*len(servers)))
			var m *dns.Msg
			if m, err = r.askOne(each, server, q); err == nil {
				cancel()
				return m, nil
			}
			cancel()
			if ctx.Err() != nil {
				return nil, err
			}
		}
	}
	return nil, err
}

func (r *resolver) askOne(ctx context.Context, server string, q dns.Question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.Id, m.RecursionDesired, m.Question = dns.Id(), true, []dns.Question{q}
	m.SetEdns0(1232, false)
	a, err := r.exchange(ctx, server, m)
	switch {
	case err != nil:
		return nil, err
	case !a.Response || a.Id != m.Id || len(a.Question) != 1 || dns.CanonicalName(a.Question[0].Name) != q.Name || a.Question[0].Qtype != q.Qtype:
		return nil, errors.New("an answer to another question")
	case a.Rcode != dns.RcodeSuccess && a.Rcode != dns.RcodeNameError:
		return nil, errors.New("the name server says " + dns.RcodeToString[a.Rcode])
	}
	return a, nil
}

func (r *resolver) servers() ([]string, error) {
	if r.server != "" {
		return []string{r.server}, nil
	}
	conf, err := dns.ClientConfigFromFile(r.conf)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, s := range conf.Servers[:min(len(conf.Servers), 3)] {
		list = append(list, net.JoinHostPort(s, conf.Port))
	}
	if len(list) == 0 {
		return nil, errors.New("no name server is configured")
	}
	return list, nil
}

// addresses gives a host's addresses, IPv6 and IPv4 in turn (RFC 8305 §4).
func (r *resolver) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var v6, v4 []dns.RR
	var err6, err4 error
	var wg sync.WaitGroup
	wg.Go(func() { v6, err6 = r.lookup(ctx, host, dns.TypeAAAA) })
	wg.Go(func() { v4, err4 = r.lookup(ctx, host, dns.TypeA) })
	wg.Wait()
	var list []netip.Addr
	for i := range max(len(v6), len(v4)) {
		if i < len(v6) {
			list = appendAddr(list, v6[i].(*dns.AAAA).AAAA)
		}
		if i < len(v4) {
			list = appendAddr(list, v4[i].(*dns.A).A)
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case err4 != nil && !isNotFound(err4):
		return nil, err4
	case err6 != nil && !isNotFound(err6):
		return nil, err6
	}
	return nil, &lookupError{name: strings.TrimSuffix(host, "."), notFound: true}
}

func appendAddr(list []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok && len(list) < maxAddresses {
		list = append(list, a.Unmap())
	}
	return list
}
