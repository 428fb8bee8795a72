package s2s

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// slowDNS never answers.
func slowDNS(ctx context.Context, _ string, _ *dns.Msg) (*dns.Msg, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// zone answers from lines of a zone file; names in fail get SERVFAIL.
type zone struct {
	records map[dns.Question][]dns.RR
	names   map[string]bool
	fail    map[string]bool
	aliases bool // answers with an alias carry what it stands for

	mu    sync.Mutex
	asked []string
}

func newZone(t testing.TB, lines string) *zone {
	t.Helper()
	z := &zone{records: map[dns.Question][]dns.RR{}, names: map[string]bool{}, fail: map[string]bool{}}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if name, ok := strings.CutSuffix(line, " SERVFAIL"); ok {
			z.fail[name] = true
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		h := rr.Header()
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: dns.ClassINET}
		z.records[q] = append(z.records[q], rr)
		z.names[h.Name] = true
	}
	return z
}

func (z *zone) answer(q *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	question := q.Question[0]
	z.asked = append(z.asked, question.Name+" "+dns.TypeToString[question.Qtype])
	m := new(dns.Msg)
	m.SetReply(q)
	if z.fail[question.Name] {
		m.Rcode = dns.RcodeServerFailure
		return m
	}
	if !z.names[question.Name] {
		m.Rcode = dns.RcodeNameError
		soa, _ := dns.NewRR("example. 3600 IN SOA a.example. b.example. 1 2 3 4 60")
		m.Ns = append(m.Ns, soa)
	}
	for range 10 {
		m.Answer = append(m.Answer, z.records[question]...)
		alias := z.records[dns.Question{Name: question.Name, Qtype: dns.TypeCNAME, Qclass: dns.ClassINET}]
		if len(alias) == 0 {
			break
		}
		m.Answer = append(m.Answer, alias...)
		if !z.aliases {
			break
		}
		question.Name = alias[0].(*dns.CNAME).Target
	}
	return m
}

func (z *zone) exchange(_ context.Context, _ string, q *dns.Msg) (*dns.Msg, error) {
	return z.answer(q), nil
}

func (z *zone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := len(z.asked)
	z.asked = nil
	return n
}

// located is a Server with nothing but a resolver.
func located(z *zone) *Server {
	r := newResolver("192.0.2.53:53", time.Second)
	r.exchange = z.exchange
	return &Server{resolver: r, routes: map[string]target{}, opt: Options{random: func(int) int { return 0 }, ConnectTimeout: time.Second}}
}

func TestTargets(t *testing.T) {
	for name, c := range map[string]struct{ zone, want string }{
		"one": {"_xmpp-server._tcp.capulet.example. 60 IN SRV 10 0 5269 home.capulet.example.", "home.capulet.example.:5269"},
		"priorities of both services count together": {`
			_xmpp-server._tcp.capulet.example. 60 IN SRV 20 0 5269 b.capulet.example.
			_xmpp-server._tcp.capulet.example. 60 IN SRV 5 0 5269 a.capulet.example.
			_xmpps-server._tcp.capulet.example. 60 IN SRV 10 0 5270 a.capulet.example.`,
			"a.capulet.example.:5269 a.capulet.example.:5270 direct b.capulet.example.:5269"},
		"direct TLS is not offered, the rest is": {`
			_xmpp-server._tcp.capulet.example. 60 IN SRV 5 0 5269 a.capulet.example.
			_xmpps-server._tcp.capulet.example. 60 IN SRV 0 0 0 .`, "a.capulet.example.:5269"},
		"no service, and no fall-back": {`
			_xmpp-server._tcp.capulet.example. 60 IN SRV 0 0 0 .
			capulet.example. 60 IN A 192.0.2.1`, "not found"},
		"fall-back": {"capulet.example. 60 IN A 192.0.2.1", "capulet.example:5269"},
		"fall-back where SRV can not be asked for":   {"_xmpp-server._tcp.capulet.example. SERVFAIL\ncapulet.example. 60 IN A 192.0.2.1", "capulet.example:5269"},
		"nothing can be asked for":                   {"_xmpp-server._tcp.capulet.example. SERVFAIL\n_xmpps-server._tcp.capulet.example. SERVFAIL\ncapulet.example. SERVFAIL", "fails"},
		"one service can not be asked for":           {"_xmpps-server._tcp.capulet.example. SERVFAIL\n_xmpp-server._tcp.capulet.example. 60 IN SRV 5 0 5269 a.capulet.example.", "a.capulet.example.:5269"},
		"an alias whose target is in another answer": {"_xmpp-server._tcp.capulet.example. 60 IN CNAME srv.verona.example.\nsrv.verona.example. 60 IN SRV 5 0 5269 a.verona.example.", "a.verona.example.:5269"},
		"aliases in a ring":                          {"_xmpp-server._tcp.capulet.example. 60 IN CNAME b.example.\nb.example. 60 IN CNAME _xmpp-server._tcp.capulet.example.", "fails"},
		"at most so many":                            {manySRV(20), strings.TrimSpace(strings.Repeat("a.capulet.example.:5269 ", maxTargets))},
	} {
		t.Run(name, func(t *testing.T) {
			for _, aliases := range []bool{false, true} {
				z := newZone(t, c.zone)
				z.aliases = aliases
				list, err := located(z).targets(t.Context(), "capulet.example")
				var have []string
				for _, x := range list {
					s := fmt.Sprintf("%s:%d", x.host, x.port)
					if x.direct {
						s += " direct"
					}
					have = append(have, s)
				}
				got := strings.Join(have, " ")
				if isNotFound(err) {
					got = "not found"
				} else if err != nil {
					got = "fails"
				}
				if got != c.want {
					t.Errorf("found %q (%v), expected %q", got, err, c.want)
				}
			}
		})
	}
}

func manySRV(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "_xmpp-server._tcp.capulet.example. 60 IN SRV 5 %d 5269 a.capulet.example.\n", i)
	}
	return b.String()
}

func TestIDNA(t *testing.T) {
	z := newZone(t, "_xmpp-server._tcp.xn--mnchen-3ya.example. 60 IN SRV 5 0 5269 a.example.")
	if list, err := located(z).targets(t.Context(), "münchen.example"); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// TestWeights: RFC 2782's chances, by a seeded generator.
func TestWeights(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)).IntN
	first := map[uint16]int{}
	const rounds = 10000
	for range rounds {
		var list []target
		for _, w := range []uint16{0, 10, 30, 60} {
			list = append(list, target{srv: &dns.SRV{Priority: 1, Weight: w}})
		}
		list = append(list, target{srv: &dns.SRV{Priority: 0, Weight: 0}})
		list = sortTargets(list, random)
		if list[0].srv.Priority != 0 {
			t.Fatal("a higher priority comes first")
		}
		first[list[1].srv.Weight]++
	}
	for w, share := range map[uint16]float64{0: 0.01, 10: 0.1, 30: 0.3, 60: 0.6} {
		if have := float64(first[w]) / rounds; have < share-0.02 || have > share+0.02 {
			t.Errorf("weight %d came first in %.3f of the rounds", w, have)
		}
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, "a.example. 60 IN A 192.0.2.1\nb.example. 0 IN A 192.0.2.1\nc.example. 999999 IN A 192.0.2.1\nd.example. SERVFAIL")
		r := located(z).resolver
		ask := func(name string) int {
			_, _ = r.lookup(t.Context(), name, dns.TypeA)
			return z.questions()
		}
		for _, c := range []struct {
			name  string
			after time.Duration
			want  int
		}{
			{"a.example.", 0, 1}, {"A.Example", 59 * time.Second, 0}, {"a.example.", 2 * time.Second, 1},
			{"b.example.", 0, 1}, {"b.example.", 4 * time.Second, 0}, {"b.example.", 2 * time.Second, 1},
			{"c.example.", 0, 1}, {"c.example.", maxTTL - time.Second, 0}, {"c.example.", 2 * time.Second, 1},
			{"none.example.", 0, 1}, {"none.example.", 59 * time.Second, 0}, {"none.example.", 2 * time.Second, 1},
			{"d.example.", 0, 2}, {"d.example.", 0, 2},
		} {
			time.Sleep(c.after)
			if n := ask(c.name); n != c.want {
				t.Errorf("%s: %d questions, expected %d", c.name, n, c.want)
			}
		}
		for i := range 2 * maxCached {
			ask(fmt.Sprintf("n%d.example.", i))
		}
		if len(r.cache) > maxCached {
			t.Errorf("%d answers are kept", len(r.cache))
		}
	})
}

// TestForgedAnswers: what does not answer the question is not an answer.
func TestForgedAnswers(t *testing.T) {
	for name, forge := range map[string]func(*dns.Msg){
		"another id":       func(m *dns.Msg) { m.Id++ },
		"another question": func(m *dns.Msg) { m.Question[0].Name = "b.example." },
		"another type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"no question":      func(m *dns.Msg) { m.Question = nil },
		"a question":       func(m *dns.Msg) { m.Response = false },
		"refused":          func(m *dns.Msg) { m.Rcode = dns.RcodeRefused },
	} {
		z := newZone(t, "a.example. 60 IN A 192.0.2.1")
		r := located(z).resolver
		r.exchange = func(_ context.Context, _ string, q *dns.Msg) (*dns.Msg, error) {
			m := z.answer(q).Copy()
			forge(m)
			return m, nil
		}
		if rr, err := r.lookup(t.Context(), "a.example.", dns.TypeA); err == nil || isNotFound(err) {
			t.Errorf("%s: %v %v", name, rr, err)
		}
	}
	z := newZone(t, "a.example. 60 IN A 192.0.2.1")
	r := located(z).resolver
	r.exchange = func(_ context.Context, _ string, q *dns.Msg) (*dns.Msg, error) {
		m := z.answer(q).Copy()
		other, _ := dns.NewRR("b.example. 60 IN A 192.0.2.66")
		m.Answer = []dns.RR{other}
		return m, nil
	}
	if rr, err := r.lookup(t.Context(), "a.example.", dns.TypeA); !isNotFound(err) {
		t.Errorf("another name's record was taken: %v %v", rr, err)
	}
}

// TestOverTheWire asks a real server on loopback, whose long answers need TCP.
func TestOverTheWire(t *testing.T) {
	z := newZone(t, manySRV(60)+"a.example. 60 IN A 192.0.2.1")
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := z.answer(q)
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	r := newResolver(udp.LocalAddr().String(), 5*time.Second)
	if rr, err := r.lookup(t.Context(), "_xmpp-server._tcp.capulet.example.", dns.TypeSRV); err != nil || len(rr) != 60 {
		t.Errorf("%d records, %v", len(rr), err)
	}
	if rr, err := r.lookup(t.Context(), "a.example.", dns.TypeA); err != nil || len(rr) != 1 {
		t.Errorf("%v %v", rr, err)
	}
	if _, err := r.lookup(t.Context(), "none.example.", dns.TypeA); !isNotFound(err) {
		t.Error(err)
	}
}

// TestDial: addresses are tried one after the other, IPv6 first, the next one a little later, and the first that answers wins.
func TestDial(t *testing.T) {
	const refuse, hang, answer = "refuse", "hang", "answer"
	for name, c := range map[string]struct {
		does  map[string]string
		tried string
		err   bool
		took  time.Duration
	}{
		"the first answers":           {map[string]string{"2001:db8::1": answer}, "2001:db8::1", false, 0},
		"the first refuses":           {map[string]string{"2001:db8::1": refuse, "192.0.2.1": answer}, "2001:db8::1 192.0.2.1", false, 0},
		"the first hangs":             {map[string]string{"2001:db8::1": hang, "192.0.2.1": answer}, "2001:db8::1 192.0.2.1", false, stagger},
		"all refuse":                  {map[string]string{}, "2001:db8::1 192.0.2.1 2001:db8::2", true, 0},
		"all hang":                    {map[string]string{"2001:db8::1": hang, "192.0.2.1": hang, "2001:db8::2": hang}, "2001:db8::1 192.0.2.1 2001:db8::2", true, time.Second + 2*stagger},
		"one refuses while one hangs": {map[string]string{"2001:db8::1": hang, "192.0.2.1": refuse, "2001:db8::2": answer}, "2001:db8::1 192.0.2.1 2001:db8::2", false, stagger},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := located(newZone(t, "a.example. 60 IN A 192.0.2.1\na.example. 60 IN AAAA 2001:db8::1\na.example. 60 IN AAAA 2001:db8::2"))
				var mu sync.Mutex
				var tried []string
				s.opt.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
					host, _, _ := net.SplitHostPort(address)
					mu.Lock()
					tried = append(tried, host)
					mu.Unlock()
					switch c.does[host] {
					case answer:
						ours, theirs := net.Pipe()
						_ = theirs.Close()
						return ours, nil
					case hang:
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				}
				start := time.Now()
				conn, err := s.dial(t.Context(), target{host: "a.example.", port: 5269})
				if (err != nil) != c.err || (conn == nil) != c.err {
					t.Errorf("%v %v", conn, err)
				}
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %v, expected %v", took, c.took)
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if got := strings.Join(tried, " "); got != c.tried {
					t.Errorf("tried %s, expected %s", got, c.tried)
				}
			})
		})
	}
}

// TestLookupFailures: what the sender is told, and when.
func TestLookupFailures(t *testing.T) {
	for name, c := range map[string]struct {
		zone  string
		after time.Duration
		want  string
	}{
		"no such domain":           {"", 0, "m1 remote-server-not-found"},
		"service not offered":      {"_xmpp-server._tcp.verona.example. 60 IN SRV 0 0 0 .", 0, "m1 remote-server-not-found"},
		"the DNS fails":            {"_xmpp-server._tcp.verona.example. SERVFAIL\n_xmpps-server._tcp.verona.example. SERVFAIL\nverona.example. SERVFAIL", 121 * time.Second, "m1 remote-server-timeout"},
		"nobody listens":           {"_xmpp-server._tcp.verona.example. 60 IN SRV 0 0 1 verona.example.\nverona.example. 60 IN A 192.0.2.1", 121 * time.Second, "m1 remote-server-not-found"},
		"a host without addresses": {"_xmpp-server._tcp.verona.example. 60 IN SRV 0 0 1 host.verona.example.", 0, "m1 remote-server-not-found"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNet(t)
				b := n.box("capulet.example", func(o *Options) { o.Resolver = "192.0.2.53:53" })
				defer b.stop()
				z := newZone(t, c.zone)
				b.resolver.exchange = z.exchange
				b.says("juliet@capulet.example", "x@verona.example", "m1")
				if c.after > 0 {
					b.hears()
				}
				time.Sleep(c.after)
				b.hears(c.want)
				if c.after == 0 {
					// A failure that lasts is told at once for a while, without another look.
					z.questions()
					b.says("juliet@capulet.example", "x@verona.example", "m1")
					b.hears(c.want)
					if n := z.questions(); n > 0 {
						t.Errorf("%d more questions", n)
					}
				}
			})
		})
	}
}

// TestSeveralServers: the second is taken when the first has no TLS.
func TestSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t)
		m := n.box("montague.example")
		defer m.stop()
		c := n.box("capulet.example", func(o *Options) { o.Resolver = "192.0.2.53:53"; o.Routes = nil })
		defer c.stop()
		z := newZone(t, `
			_xmpp-server._tcp.montague.example. 60 IN SRV 1 0 5269 refuses.montague.example.
			_xmpp-server._tcp.montague.example. 60 IN SRV 2 0 5269 none.montague.example.
			_xmpp-server._tcp.montague.example. 60 IN SRV 3 0 5269 other.montague.example.
			_xmpp-server._tcp.montague.example. 60 IN SRV 4 0 5269 home.montague.example.
			refuses.montague.example. 60 IN A 192.0.2.1
			other.montague.example. 60 IN A `+c.ip.String()+`
			home.montague.example. 60 IN AAAA 2001:db8::1
			home.montague.example. 60 IN A `+m.ip.String())
		c.resolver.exchange = z.exchange
		c.says("juliet@capulet.example", "romeo@montague.example", "m1")
		m.hears("m1 by certificate")
		if !slices.Contains(z.asked, "refuses.montague.example. A") {
			t.Error(z.asked)
		}
	})
}

func TestResolvConf(t *testing.T) {
	r := newResolver("", time.Second)
	r.conf = filepath.Join(t.TempDir(), "resolv.conf")
	if list, err := r.servers(); err == nil {
		t.Errorf("without a file there are %v", list)
	}
	for text, want := range map[string]string{
		"":                     "",
		"search example":       "",
		"nameserver 192.0.2.1": "192.0.2.1:53",
		"nameserver 2001:db8::1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3": "[2001:db8::1]:53 192.0.2.1:53 192.0.2.2:53",
	} {
		if err := os.WriteFile(r.conf, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := r.servers()
		if got := strings.Join(list, " "); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// TestSecondServer: one name server that does not answer does not stop the look-up.
func TestSecondServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, "a.example. 60 IN A 192.0.2.1")
		r := newResolver("", 8*time.Second)
		r.conf = filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(r.conf, []byte("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.exchange = func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
			if server == "192.0.2.1:53" {
				return slowDNS(ctx, server, q)
			}
			return z.answer(q), nil
		}
		start := time.Now()
		if _, err := r.lookup(t.Context(), "a.example.", dns.TypeA); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
