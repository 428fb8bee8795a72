package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/store"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// patience is how long the box may take for one thing.
const patience = 30 * time.Second

// counts is what was acknowledged, by kind.
type counts struct {
	mu   sync.Mutex
	kind map[string]int
}

func (c *counts) add(kind string) { c.addN(kind, 1) }

func (c *counts) addN(kind string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kind == nil {
		c.kind = map[string]int{}
	}
	c.kind[kind] += n
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var words []string
	for _, k := range slices.Sorted(maps.Keys(c.kind)) {
		words = append(words, fmt.Sprintf("%d %s", c.kind[k], k))
	}
	return strings.Join(words, ", ")
}

// random is the randomness of one purpose in one round.
func (r *run) random(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.state.Seed, uint64(r.state.Round)<<16|purpose))
}

// round is: restart, check, load, kill.
func (r *run) round(ctx context.Context) error {
	rng := r.random(0)
	if rng.IntN(6) == 0 {
		if err := r.killStarting(rng); err != nil {
			return err
		}
	}
	t, err := r.restart(ctx)
	if err != nil {
		return err
	}
	load := 20*time.Millisecond + time.Duration(rng.Int64N(int64(r.load)))
	if err := t.underLoad(ctx, load); err != nil {
		return err
	}
	if err := store.Check(r.box.Store()); err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}
	if !r.quiet {
		fmt.Printf("round %d: first login after %s, killed after %s of load, %s so far\n",
			r.state.Round, r.logins[len(r.logins)-1].Round(time.Millisecond), load.Round(time.Millisecond), &r.done)
	}
	return nil
}

// killStarting kills the box while it comes up.
func (r *run) killStarting(rng *rand.Rand) error {
	if err := r.box.Launch(); err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(80 * time.Millisecond)))):
	case <-r.box.Ended():
		return errors.New("the box ended by itself while it came up")
	}
	r.box.Kill()
	if err := store.Check(r.box.Store()); err != nil {
		return fmt.Errorf("killed while it came up: %w", err)
	}
	return nil
}

// restart starts the box and checks all that was acknowledged.
func (r *run) restart(ctx context.Context) (*town, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := &town{run: r, m: r.state.Model, clients: map[string]*testclient.Client{}, pending: map[string]map[string]bool{}}
	began := time.Now()
	if err := r.box.Launch(); err != nil {
		return nil, err
	}
	for i, name := range people {
		if err := t.login(ctx, name); err != nil {
			return nil, err
		}
		if i == 0 {
			r.logins = append(r.logins, time.Since(began))
		}
	}
	if err := t.verify(ctx); err != nil {
		return nil, err
	}
	return t, errors.Join(t.problems...)
}

// login tries until the box is up.
func (t *town) login(ctx context.Context, name string) error {
	t.pending[name] = map[string]bool{}
	cfg, err := t.box.ClientConfig(name, password, "balcony")
	if err != nil {
		return err
	}
	cfg.On = t.on(name)
	for {
		c, err := testclient.Dial(ctx, cfg)
		if err == nil {
			t.clients[name] = c
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-t.box.Ended():
			return fmt.Errorf("the box ended by itself; see %s", t.box.LogFile())
		case <-ctx.Done():
			return fmt.Errorf("nobody can log in: %w", err)
		}
	}
}

// underLoad lets everybody work, and kills the box in the middle of it.
func (t *town) underLoad(ctx context.Context, load time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, load+patience)
	defer cancel()
	var killed atomic.Bool
	var wg sync.WaitGroup
	for i, w := range t.workers() {
		rng := t.random(uint64(i) + 1)
		wg.Go(func() {
			for {
				if err := w.step(ctx, rng); err != nil {
					if !killed.Load() {
						t.problem("%s: %w", w.name, err)
					}
					return
				}
			}
		})
	}
	select {
	case <-time.After(load):
	case <-ctx.Done():
	}
	killed.Store(true)
	t.box.Kill()
	wg.Wait()
	return errors.Join(t.problems...)
}

// roster asks for a roster; with a list only for what changed since.
func roster(ctx context.Context, c *testclient.Client, l *list) (items map[string]string, ver string, err error) {
	query := "<query xmlns='" + nsRoster + "'/>"
	if l != nil {
		query = "<query xmlns='" + nsRoster + "' ver='" + testclient.Escape(l.Text) + "'/>"
	}
	st, err := c.IQ(ctx, "get", "", query)
	if err == nil {
		err = testclient.Refusal(st)
	}
	if err != nil {
		return nil, "", err
	}
	q := st.Node().Child(nsRoster, "query")
	if q == nil {
		return nil, "", nil
	}
	items = map[string]string{}
	for _, n := range q.Children {
		if _, twice := items[n.Attr("jid")]; twice {
			return nil, "", fmt.Errorf("%s has %s twice in the roster", c.Account(), n.Attr("jid"))
		}
		items[n.Attr("jid")] = itemText(n)
	}
	return items, q.Attr("ver"), nil
}

// child is the first element in the payload of a reply.
func child(st *frame.Element) *frame.Node {
	n := st.Node()
	if len(n.Children) == 0 {
		return nil
	}
	return n.Children[0]
}
