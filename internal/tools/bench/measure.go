package main

import (
	"context"
	"errors"
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
	logins       = 600
	loginsFor    = 10 * time.Second // at the most: ejabberd takes 100 ms to end a session
	sessions     = 1000
	settleIdle   = 10 * time.Second
	isolated     = 50
	bulk         = 1000
)

// measure is run on a server of its own, and has to end within its time.
type measure struct {
	name  string
	limit time.Duration
	once  bool // in the first run only
	run   func(ctx context.Context, s server, f figures) error
}

// measures are run in this order.
func measures(steadyFor time.Duration) []measure {
	const limit = 3 * time.Minute
	all := []measure{
		{"start", limit, false, start},
		{"login", limit, false, loggingIn},
		{"idle", limit, false, idle},
		{"relay", limit, false, relay},
		{"archived", limit, false, archived},
		{"isolated", limit, false, isolatedMessages},
		{"offline", limit, false, offline},
		{"pages", limit, false, pages},
		{"writes", limit, false, writes},
		{"long", 10 * time.Minute, true, longArchive},
	}
	if steadyFor > 0 {
		all = append(all, measure{"steady", steadyFor + steadyFor/10 + limit, false, func(ctx context.Context, s server, f figures) error {
			return steady(ctx, s, f, steadyFor)
		}})
	}
	return all
}

func measureNames() (names []string) {
	for _, m := range measures(time.Hour) {
		names = append(names, m.name)
	}
	return names
}

// errNotOffered: what is to be measured is not there.
var errNotOffered = errors.New("not offered")

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
	wait(ctx, settleStart)
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

// perLogin is the CPU time of each of n logins, or of as many as there is time for.
func perLogin(ctx context.Context, s server, n int, change ...func(*testclient.Config)) (float64, error) {
	before, err := usageOf(s.pid())
	if err != nil {
		return 0, err
	}
	done := 0
	for began := time.Now(); done < n && time.Since(began) < loginsFor; done++ {
		c, err := login(ctx, s, done+1, change...)
		if err != nil {
			return 0, err
		}
		c.Close(ctx)
	}
	after, err := usageOf(s.pid())
	return ms(after.cpu-before.cpu) / float64(done), err
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
		wait(ctx, settleStart)
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
		wait(ctx, settleIdle)
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

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// wait lets time pass; where ctx ends, what follows fails by itself.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
