package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"

	"golang.org/x/sys/unix"
)

// figures of one server in one run, by what they are.
type figures map[string]float64

// The loads.
const (
	starts       = 5
	settleStart  = 2 * time.Second
	loginsBefore = 100 // not counted: the program warms up
	logins       = 1000
	sessions     = 1000
	settleIdle   = 10 * time.Second
	pairs        = 10
	window       = 50 // messages on their way within a pair
	messages     = 100_000
	pacedFor     = 10 * time.Second
	pacedRate    = 100 // messages per second, all pairs together
	isolated     = 50
	bulk         = 1000
)

// measures are run in this order, each on a server of its own.
var measures = []measure{{"start", start}, {"login", loggingIn}, {"idle", idle}, {"relay", relay}, {"writes", writes}}

type measure struct {
	name string
	run  func(ctx context.Context, s server, f figures) error
}

func measureNames() (names []string) {
	for _, m := range measures {
		names = append(names, m.name)
	}
	return names
}

// start is how long a client waits for a server that is being started, and what that holds in memory when nobody came.
func start(ctx context.Context, s server, f figures) error {
	var times []float64
	for range starts {
		if err := s.reset(); err != nil {
			return err
		}
		began := time.Now()
		if err := s.launch(); err != nil {
			return err
		}
		c, err := awaitLogin(ctx, s, 0)
		if err != nil {
			return err
		}
		times = append(times, ms(time.Since(began)))
		c.Close(ctx)
		s.stop()
	}
	f["start_ms"] = median(times)
	if err := errors.Join(s.reset(), s.launch()); err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(settleStart)
	all, anonymous, err := residentKB(s.pid())
	f["rss_start_mb"], f["anon_start_mb"] = all/1024, anonymous/1024
	return err
}

// loggingIn is the CPU time of a login: TCP, STARTTLS, SCRAM, a resource, and the end of the stream; one after another.
func loggingIn(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(*testclient.Client) error {
		if _, err := perLogin(ctx, s, loginsBefore); err != nil {
			return err
		}
		var err error
		if f["login_cpu_ms"], err = perLogin(ctx, s, logins); err != nil {
			return err
		}
		f["login_pq_cpu_ms"], err = perLogin(ctx, s, logins/2, func(cfg *testclient.Config) { cfg.TLS.CurvePreferences = nil })
		return err
	})
}

func perLogin(ctx context.Context, s server, n int, change ...func(*testclient.Config)) (float64, error) {
	before, err := cpuTime(s.pid())
	if err != nil {
		return 0, err
	}
	for i := range n {
		c, err := login(ctx, s, i+1, change...)
		if err != nil {
			return 0, err
		}
		c.Close(ctx)
	}
	after, err := cpuTime(s.pid())
	return ms(after-before) / float64(n), err
}

// on runs something on a started server. The client is of account 0.
func on(ctx context.Context, s server, do func(c *testclient.Client) error) error {
	if err := s.reset(); err != nil {
		return err
	}
	unix.Sync() // what the preparation wrote is not the server's
	if err := s.launch(); err != nil {
		return err
	}
	defer s.stop()
	c, err := awaitLogin(ctx, s, 0)
	if err != nil {
		return err
	}
	defer c.Cut()
	return do(c)
}

// idle is what a session holds that does nothing: TLS, roster asked for, presence sent.
func idle(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(*testclient.Client) error {
		time.Sleep(settleStart)
		before, _, err := residentKB(s.pid())
		if err != nil {
			return err
		}
		clients, err := crowd(ctx, s)
		defer func() {
			for _, c := range clients {
				c.Cut()
			}
		}()
		if err != nil {
			return err
		}
		time.Sleep(settleIdle)
		after, _, err := residentKB(s.pid())
		f["session_kb"], f["rss_1000_mb"] = (after-before)/sessions, after/1024
		return err
	})
}

// crowd logs 1000 clients in, eight at a time.
func crowd(ctx context.Context, s server) ([]*testclient.Client, error) {
	var mu sync.Mutex
	var clients []*testclient.Client
	var all error
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= sessions {
					return
				}
				c, err := login(ctx, s, i+users, func(cfg *testclient.Config) {
					cfg.On = func(_ *testclient.Client, st *frame.Element) bool { return st.Name != "iq" }
				})
				if err == nil {
					_, err = c.IQ(ctx, "get", "", "<query xmlns='jabber:iq:roster'/>")
				}
				if err == nil {
					err = c.Send("<presence/>")
				}
				mu.Lock()
				if c != nil {
					clients = append(clients, c)
				}
				all = errors.Join(all, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return clients, all
}

// couple is two clients, one of whom writes to the other.
type couple struct {
	from, to *testclient.Client
	arrived  chan time.Time
}

func newCouple(ctx context.Context, s server, i int) (*couple, error) {
	p := &couple{arrived: make(chan time.Time, 1000)}
	var err error
	quiet := func(cfg *testclient.Config) {
		cfg.On = func(_ *testclient.Client, st *frame.Element) bool { return st.Name != "iq" }
	}
	if p.from, err = login(ctx, s, 2*i+1, quiet); err != nil {
		return nil, err
	}
	if p.to, err = login(ctx, s, 2*i+2, func(cfg *testclient.Config) {
		cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
			if st.Name == "message" {
				p.arrived <- time.Now()
			}
			return st.Name != "iq"
		}
	}); err != nil {
		return nil, err
	}
	for _, c := range []*testclient.Client{p.from, p.to} {
		if err := c.Send("<presence/>"); err != nil {
			return nil, err
		}
		if _, err := c.IQ(ctx, "get", domain, "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *couple) message() string {
	return "<message type='chat' id='m1' to='" + p.to.JID() + "'><body>Good night, good night! Parting is such sweet sorrow.</body></message>"
}

// relay is one-to-one messages between clients who are there; nothing is stored.
func relay(ctx context.Context, s server, f figures) error {
	return on(ctx, s, func(*testclient.Client) error {
		var all []*couple
		for i := range pairs {
			p, err := newCouple(ctx, s, i)
			if err != nil {
				return err
			}
			defer p.from.Cut()
			defer p.to.Cut()
			all = append(all, p)
		}
		if _, err := flood(ctx, s, all, messages/10, nil); err != nil { // buffers grow, caches fill
			return err
		}
		took, err := flood(ctx, s, all, messages, f)
		if err != nil {
			return err
		}
		f["relay_rate"] = messages / took.Seconds()
		return paced(ctx, s, all, f)
	})
}

// flood sends as fast as the server takes it, each message in a TLS record of its own.
func flood(ctx context.Context, s server, all []*couple, n int, f figures) (time.Duration, error) {
	before, err := cpuTime(s.pid())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	errs := make(chan error, len(all))
	for _, p := range all {
		go func() { errs <- p.send(ctx, n/len(all)) }()
	}
	for range all {
		err = errors.Join(err, <-errs)
	}
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	after, err := cpuTime(s.pid())
	if f != nil {
		f["relay_cpu_us"] = us(after-before) / float64(n)
	}
	return took, err
}

func (p *couple) send(ctx context.Context, n int) error {
	msg := p.message()
	for sent, got := 0, 0; got < n; {
		if sent < n && sent-got < window {
			if err := p.from.Send(msg); err != nil {
				return err
			}
			sent++
			continue
		}
		select {
		case <-p.arrived:
			got++
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages came: %w", got, n, ctx.Err())
		}
	}
	return nil
}

// paced sends evenly, as people would if they were quick, and takes the time from one client to the other.
func paced(ctx context.Context, s server, all []*couple, f figures) error {
	before, err := cpuTime(s.pid())
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second / pacedRate)
	defer tick.Stop()
	n := int(pacedFor.Seconds() * pacedRate)
	var late []float64
	for i := range n {
		p := all[i%len(all)]
		<-tick.C
		sent := time.Now()
		if err := p.from.Send(p.message()); err != nil {
			return err
		}
		select {
		case at := <-p.arrived:
			late = append(late, ms(at.Sub(sent)))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	after, err := cpuTime(s.pid())
	f["paced_cpu_us"] = us(after-before) / float64(n)
	slices.Sort(late)
	f["latency_p50_ms"], f["latency_p99_ms"] = late[n/2], late[n*99/100]
	return err
}

// writes is what reaches the device for what is kept: one by one, and as many at once as the server takes.
func writes(ctx context.Context, s server, f figures) error {
	set := func(i int) string {
		return fmt.Sprintf("<query xmlns='jabber:iq:roster'><item jid='friend%d@elsewhere.example' name='Friend %d'><group>Friends</group></item></query>", i, i)
	}
	return on(ctx, s, func(c *testclient.Client) error {
		return errors.Join(
			perWrite(s, f, "write_isolated_kb", isolated, func() error {
				for i := range isolated {
					if err := c.Set(ctx, "", set(i)); err != nil {
						return err
					}
				}
				return nil
			}),
			perWrite(s, f, "write_bulk_kb", bulk, func() error {
				return inBulk(ctx, c, func(i int) string { return set(i%500 + isolated) })
			}),
			perWrite(s, f, "write_offline_kb", isolated, func() error {
				for i := range isolated {
					to := fmt.Sprintf("%s@%s", user(i%20+1), domain)
					if err := c.Send("<message type='chat' to='" + to + "' id='m" + fmt.Sprint(i) + "'><body>Good night, good night!</body></message>"); err != nil {
						return err
					}
					if _, err := c.IQ(ctx, "get", to, "<ping xmlns='urn:xmpp:ping'/>"); err != nil { // answered behind it
						return err
					}
				}
				return nil
			}),
			perWrite(s, f, "write_pep_kb", isolated, func() error {
				for i := range isolated {
					mood := fmt.Sprintf("<mood xmlns='http://jabber.org/protocol/mood'><happy/><text>day %d</text></mood>", i)
					if err := c.Set(ctx, "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='http://jabber.org/protocol/mood'><item id='current'>"+
						mood+"</item></publish></pubsub>"); err != nil {
						return err
					}
				}
				return nil
			}))
	})
}

// inBulk sends requests without waiting, and then waits for all replies.
func inBulk(ctx context.Context, c *testclient.Client, payload func(int) string) error {
	var replies []<-chan *frame.Element
	for i := range bulk {
		reply, err := c.Ask("set", "", payload(i))
		if err != nil {
			return err
		}
		replies = append(replies, reply)
	}
	for _, reply := range replies {
		select {
		case st, ok := <-reply:
			if !ok {
				return c.Err()
			}
			if err := testclient.Refusal(st); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func perWrite(s server, f figures, name string, n float64, do func() error) error {
	before, err := writtenBytes(s.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	f[name+"_ms"] = ms(time.Since(began)) / n
	after, err := writtenBytes(s.pid())
	f[name] = (after - before) / n / 1024
	return err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
