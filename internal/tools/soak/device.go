package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/testclient"
)

// device is one of an account's. Its methods are called from one goroutine, but for take.
type device struct {
	t        *town
	account  *account
	name     string // in origin-ids
	resource string
	rng      *rand.Rand

	acknowledges bool // XEP-0198
	carbons      bool // XEP-0280
	receipts     bool // XEP-0184
	priority     int

	c        *testclient.Client    // nil: away
	resume   *testclient.SMSession // nil: there is nothing to be resumed
	number   int                   // of the last message
	inflight []flight              // sent, and not acknowledged; in order
	again    []flight              // to be sent again
	runs     int32                 // of the home when it came
	kills    int32
	cutAt    time.Time // when the connection was lost
	started  bool      // the session is what the device wants it to be

	mu       sync.Mutex
	last     *testclient.Client // the last that something came to
	session  int
	view     *view
	caughtUp bool              // in this session
	came     map[string]bool   // what came in this session, by id in the archive
	ever     map[string]bool   // what came in any
	latest   map[[2]string]int // in this session: the last message of a sending device in a conversation
	arrivals []arrival         // of the whole run
	thanks   []thanks          // receipts to be sent
}

type arrival struct {
	session int
	id      string
	delayed bool
}

type thanks struct{ to, id string }

// flight is a stanza on its way to the server.
type flight struct {
	raw string
	m   *message
}

func newDevice(t *town, a *account, n int) *device {
	rng := rand.New(rand.NewPCG(t.seed, uint64(n)))
	d := &device{
		t: t, account: a, name: fmt.Sprintf("d%02d", n), resource: fmt.Sprintf("r%d", n), rng: rng,
		acknowledges: rng.IntN(8) > 0, carbons: rng.IntN(4) > 0, receipts: rng.IntN(3) == 0,
		view: newView(), came: map[string]bool{}, ever: map[string]bool{}, latest: map[[2]string]int{},
	}
	if rng.IntN(8) == 0 {
		d.priority = -1
	}
	return d
}

// dial comes back, in the session of before if it can be.
func (d *device) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	cfg, err := d.account.home.ClientConfig(d.account.name, password, d.resource)
	if err != nil {
		return err
	}
	cfg.SM, cfg.Resume, cfg.On = d.acknowledges, d.resume, d.take
	runs, kills := d.account.home.runs.Load(), d.account.home.kills.Load()
	c, err := testclient.Dial(ctx, cfg)
	if c == nil {
		return err
	}
	d.c, d.runs = c, runs // where the retransmission failed, the session is there all the same
	d.mu.Lock()
	d.enter(c)
	d.mu.Unlock()
	d.outcome(c.Resumption(), kills)
	d.kills, d.resume = kills, nil
	return nil
}

// outcome looks at what became of the old session.
func (d *device) outcome(o testclient.Resumption, kills int32) {
	n := &d.t.count
	if o.Asked {
		n.asked.Add(1)
		d.settle(o.Unhandled)
	}
	for _, f := range d.inflight {
		f.m.told = o.Told && !o.Resumed
	}
	if o.Resumed {
		n.resumed.Add(1)
		return
	}
	n.sessions.Add(1)
	d.started = false
	d.again, d.inflight = append(d.again, d.inflight...), nil
	slices.SortStableFunc(d.again, func(a, b flight) int {
		_, x := origin(a.m.id)
		_, y := origin(b.m.id)
		return x - y
	})
	away := time.Since(d.cutAt)
	switch {
	case !o.Asked:
	case d.kills != kills:
		n.killed.Add(1)
	case away < d.t.resume-2*time.Second:
		d.t.problem(d, "the session could not be resumed after %s", away)
	default:
		n.late.Add(1)
	}
}

// settle notes what the server has taken over; unacked is what it has not.
func (d *device) settle(unacked []string) {
	left := map[string]bool{}
	for _, raw := range unacked {
		left[raw] = true
	}
	d.inflight = slices.DeleteFunc(d.inflight, func(f flight) bool {
		if left[f.raw] {
			return false
		}
		d.t.ledger.acked(f.m)
		d.t.count.acked.Add(1)
		return true
	})
}

// look settles by what has been acknowledged up to now.
func (d *device) look() {
	if s := d.c.SMSession(); s != nil {
		d.settle(s.Unacked)
	}
}

// connect tries to come back until it does.
func (d *device) connect(ctx context.Context) error {
	for began := time.Now(); ; {
		err := d.dial(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Since(began) > patience {
			d.t.problem(d, "can not log in: %v", err)
			return err
		}
		pause(ctx, time.Duration(50+d.rng.IntN(300))*time.Millisecond)
	}
}

// start makes a session what it is to be.
func (d *device) start(ctx context.Context) error {
	if !d.started {
		if d.carbons {
			if err := d.c.Set(ctx, "", "<enable xmlns='urn:xmpp:carbons:2'/>"); err != nil {
				return err
			}
		}
		if err := d.c.Send(fmt.Sprintf("<presence><priority>%d</priority></presence>", d.priority)); err != nil {
			return err
		}
		d.started = true
	}
	for len(d.again) > 0 {
		f := d.again[0]
		d.again = d.again[1:]
		d.t.count.again.Add(1)
		if err := d.post(f); err != nil {
			return err
		}
	}
	d.mu.Lock()
	known := d.caughtUp
	d.mu.Unlock()
	if known {
		return nil
	}
	return d.catchUp(ctx)
}

// post sends a message as a fresh stanza.
func (d *device) post(f flight) error {
	d.mu.Lock()
	d.view.own[f.m.id]++
	d.mu.Unlock()
	d.t.ledger.sending(f.m)
	if d.acknowledges {
		d.inflight = append(d.inflight, f)
	}
	return d.c.Send(f.raw)
}

// catchUp asks the archive for what the device does not know.
func (d *device) catchUp(ctx context.Context) error {
	d.mu.Lock()
	q := d.view.query()
	d.mu.Unlock()
	d.t.count.queries.Add(1)
	found, err := readArchive(ctx, d.c, q.after)
	if err != nil {
		return errors.Join(err, d.where(q.after))
	}
	d.t.count.entries.Add(int64(len(found)))
	d.mu.Lock()
	missed := d.view.caughtUp(q, found, d.carbons, d.name)
	d.caughtUp = true
	defer d.mu.Unlock()
	for _, e := range missed {
		d.t.problem(d, "session %d: message %s did not come by itself, and %s, which is later, did:%s", d.session, e.origin, q.last, d.around(e))
	}
	return nil
}

// around is the conversation around a message, as the device has it; needs the lock.
func (d *device) around(at entry) string {
	var lines []string
	place := 0
	for _, e := range byConversation(d.view.order)[at.with] {
		if e == at {
			place = len(lines)
		}
		lines = append(lines, fmt.Sprintf("\n    %s as %s, came by itself in this session: %t, in any: %t", e.origin, e.id, d.came[e.id], d.ever[e.id]))
	}
	return strings.Join(lines[max(0, place-4):min(len(lines), place+5)], "")
}

// where tells what the device knows of the message that it asked for more behind.
func (d *device) where(after string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.view.order)
	for i, e := range d.view.order {
		if e.id == after {
			return fmt.Errorf("session %d: that is number %d of %d, pin %d, synced %d, came by itself: %t, message %s with %s", d.session, i, n, d.view.pin, d.view.synced, d.ever[after], e.origin, e.with)
		}
	}
	return nil
}

func readArchive(ctx context.Context, c *testclient.Client, after string) (found []entry, err error) {
	for {
		set := "<max>100</max>"
		if after != "" {
			set += "<after>" + testclient.Escape(after) + "</after>"
		}
		page, err := c.Archive(ctx, testclient.ArchiveQuery{Set: set})
		if err != nil {
			return nil, fmt.Errorf("the archive behind %q: %w", after, err)
		}
		for _, m := range page.Messages {
			after = m.ID
			found = append(found, entryOf(m.ID, m.Message, c.Account()))
		}
		if page.Complete || len(page.Messages) == 0 {
			return found, nil
		}
	}
}

// gone waits until nothing more comes from a connection, and keeps the session.
func (d *device) gone(ctx context.Context) {
	for {
		if _, err := d.c.Next(ctx); err != nil && (d.c.Err() != nil || ctx.Err() != nil) {
			break
		}
	}
	d.cutAt = time.Now()
	d.look()
	d.resume = d.c.SMSession()
	d.c = nil
}

var errLost = errors.New("the connection was lost")
