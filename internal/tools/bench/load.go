package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// The loads of messages.
const (
	pairs     = 10
	window    = 50 // messages on their way within a pair
	warmUp    = time.Second
	floodFor  = 5 * time.Second
	pacedFor  = 10 * time.Second
	pacedRate = 100 // messages per second, all pairs together
)

const (
	archivedBody = "<body>Good night, good night! Parting is such sweet sorrow.</body>"
	relayedBody  = archivedBody + "<no-store xmlns='urn:xmpp:hints'/>" // XEP-0334: nobody keeps it
)

// couple is two clients, one of whom writes to the other.
type couple struct {
	from, to *testclient.Client
	arrived  chan arrival
	sent     int
}

type arrival struct {
	at time.Time
	id string
}

// quiet keeps nothing of what comes but what the client itself has to see.
func quiet(cfg *testclient.Config) {
	cfg.On = func(_ *testclient.Client, st *frame.Element) bool { return st.Name != "iq" }
}

func newCouple(ctx context.Context, s server, i int) (*couple, error) {
	p := &couple{arrived: make(chan arrival, 1000)}
	var err error
	if p.from, err = login(ctx, s, 2*i+1, quiet); err != nil {
		return nil, err
	}
	if p.to, err = login(ctx, s, 2*i+2, func(cfg *testclient.Config) {
		cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
			if st.Name == "message" && st.HasChild(frame.NSClient, "body") {
				p.arrived <- arrival{time.Now(), st.Attr("id")}
			}
			return st.Name != "iq"
		}
	}); err != nil {
		p.from.Cut()
		return nil, err
	}
	for _, c := range []*testclient.Client{p.from, p.to} {
		if err = appear(ctx, c); err != nil {
			p.cut()
			return nil, err
		}
	}
	return p, nil
}

// appear sends presence and waits until the server has it.
func appear(ctx context.Context, c *testclient.Client) error {
	if err := c.Send("<presence/>"); err != nil {
		return err
	}
	_, err := c.IQ(ctx, "get", domain, "<ping xmlns='urn:xmpp:ping'/>")
	return err
}

func (p *couple) cut() {
	p.from.Cut()
	p.to.Cut()
}

// couples are the pairs of clients of one measure; cut ends them.
func couples(ctx context.Context, s server) (all []*couple, cut func(), err error) {
	cut = func() {
		for _, p := range all {
			p.cut()
		}
	}
	for i := range pairs {
		p, err := newCouple(ctx, s, i)
		if err != nil {
			cut()
			return nil, nil, err
		}
		all = append(all, p)
	}
	return all, cut, nil
}

// write sends the next message, to the other's account.
func (p *couple) write(body string) error {
	p.sent++
	return p.from.Send(fmt.Sprintf("<message type='chat' id='m%d' to='%s'>%s</message>", p.sent, p.to.Account(), body))
}

// next waits for a message, which has to be that one: everything comes once and in order.
func (p *couple) next(ctx context.Context, number int) (time.Time, error) {
	select {
	case a := <-p.arrived:
		if want := fmt.Sprintf("m%d", number); a.id != want {
			return a.at, fmt.Errorf("%s got message %s, not %s", p.to.JID(), a.id, want)
		}
		return a.at, nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("%s waits for message %d of %d: %w", p.to.JID(), number, p.sent, ctx.Err())
	}
}

// flow is what messages cost a server, each.
type flow struct {
	messages float64
	rate     float64 // per second
	cpu      float64 // µs
	written  float64 // kB
}

// flood sends as fast as the server takes it, each message in a TLS record of its own, and waits until all are there.
func flood(ctx context.Context, s server, all []*couple, d time.Duration, body string) (flow, error) {
	before, err := usageOf(s.pid())
	if err != nil {
		return flow{}, err
	}
	began := time.Now()
	errs, total := make(chan error, len(all)), 0
	for _, p := range all {
		total -= p.sent
		go func() { errs <- p.stream(ctx, began.Add(d), body) }()
	}
	for range all {
		err = errors.Join(err, <-errs)
	}
	took := time.Since(began)
	for _, p := range all {
		total += p.sent
	}
	after, usageErr := usageOf(s.pid())
	if err = errors.Join(err, usageErr); err != nil {
		return flow{}, err
	}
	n := float64(total)
	return flow{n, n / took.Seconds(), us(after.cpu-before.cpu) / n, (after.written - before.written) / n / 1024}, nil
}

// stream sends until a time with a window, and waits for the rest.
func (p *couple) stream(ctx context.Context, until time.Time, body string) error {
	for got := p.sent; ; {
		if p.sent-got < window && time.Now().Before(until) {
			if err := p.write(body); err != nil {
				return err
			}
			continue
		}
		if got == p.sent {
			return nil
		}
		got++
		if _, err := p.next(ctx, got); err != nil {
			return err
		}
	}
}

// paced sends evenly, as people would if they were quick, whether the server keeps up or not, and gives the time of each message from one client to
// the other, in ms.
func paced(ctx context.Context, all []*couple, d time.Duration, body string) ([]float64, error) {
	tick := time.NewTicker(time.Second / pacedRate)
	defer tick.Stop()
	first := make([]int, len(all))
	for i, p := range all {
		first[i] = p.sent + 1
	}
	sent := make([][]time.Time, len(all))
	for i := range int(d.Seconds() * pacedRate) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		k := i % len(all)
		sent[k] = append(sent[k], time.Now())
		if err := all[k].write(body); err != nil {
			return nil, err
		}
	}
	var late []float64
	for k, p := range all {
		for i, at := range sent[k] {
			came, err := p.next(ctx, first[k]+i)
			if err != nil {
				return nil, err
			}
			late = append(late, ms(came.Sub(at)))
		}
	}
	return late, nil
}
