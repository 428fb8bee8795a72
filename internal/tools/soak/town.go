package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testbox"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const (
	password = "wherefore art thou"
	patience = time.Minute // how long a box may take for one thing
)

// town is everybody.
type town struct {
	options
	homes    []*home
	accounts []*account
	devices  []*device
	ledger   ledger
	count    counts
	salted   testclient.SaltCache
	resume   time.Duration // c2s.resume_timeout
	over     chan struct{} // closed when nothing more is to be begun

	mu       sync.Mutex
	problems int
}

// home is one box.
type home struct {
	*testbox.Box
	pid    atomic.Int32
	runs   atomic.Int32 // grows when it is about to end
	kills  atomic.Int32 // how often that was without a warning
	watch  watch
	before int // open files while nobody was there
}

// up starts the box.
func (h *home) up(ctx context.Context) error {
	err := h.Start(ctx)
	if err == nil {
		h.pid.Store(int32(h.PID()))
	}
	return err
}

// process is the box's that was started last.
func (h *home) process() int { return int(h.pid.Load()) }

type account struct {
	home     *home
	name     string
	jid      string
	partners []*account
	devices  []*device
}

func newTown(o options) (*town, error) {
	t := &town{options: o, over: make(chan struct{}), resume: 10 * time.Second}
	if o.time >= 10*time.Minute {
		t.resume = 30 * time.Second
	}
	t.ledger.messages = map[string]*message{}
	for _, domain := range []string{"capulet.example", "montague.example"}[:o.boxes] {
		host, err := testbox.FreeHost()
		if err != nil {
			return nil, err
		}
		t.homes = append(t.homes, &home{Box: &testbox.Box{
			Binary: o.binary, Dir: filepath.Join(o.dir, domain), Host: host, Domain: domain, Salted: &t.salted,
			Tables: map[string]string{"c2s": fmt.Sprintf("resume_timeout = \"%s\"\n", t.resume)},
		}})
	}
	for i := range o.accounts {
		h := t.homes[i%len(t.homes)]
		a := &account{home: h, name: fmt.Sprintf("a%02d", i)}
		a.jid = a.name + "@" + h.Domain
		t.accounts = append(t.accounts, a)
	}
	for i, a := range t.accounts {
		for _, step := range []int{1, 2, len(t.accounts) - 2, len(t.accounts) - 1} {
			a.partners = append(a.partners, t.accounts[(i+step)%len(t.accounts)])
		}
		for range o.devices {
			d := newDevice(t, a, len(t.devices))
			a.devices = append(a.devices, d)
			t.devices = append(t.devices, d)
		}
	}
	return t, nil
}

func (t *town) all(ctx context.Context) error {
	fmt.Printf("soak: %d accounts with %d devices each on %d box(es) for %s, sessions may be resumed for %s, seed %d, folder %s\n",
		len(t.accounts), t.options.devices, len(t.homes), t.time, t.resume, t.seed, t.dir)
	if err := t.begin(ctx); err != nil {
		return err
	}
	if err := t.live(ctx); err != nil {
		return err
	}
	if err := t.finish(ctx); err != nil {
		return err
	}
	t.count.print()
	if t.problems > 0 {
		return fmt.Errorf("%d discrepancies", t.problems)
	}
	return nil
}

// begin starts the boxes, and makes accounts who are each other's contacts.
func (t *town) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	for _, h := range t.homes {
		if err := h.up(ctx); err != nil {
			return err
		}
	}
	if len(t.homes) == 2 {
		if err := t.introduce(ctx); err != nil {
			return err
		}
	}
	for _, a := range t.accounts {
		if _, err := a.home.Admin().UserAdd(ctx, admin.UserAddRequest{User: a.name, Password: password}); err != nil {
			return err
		}
	}
	if err := t.befriend(ctx); err != nil {
		return err
	}
	for _, h := range t.homes { // sessions of now are gone
		h.Stop()
		if err := h.up(ctx); err != nil {
			return err
		}
		h.before = openFiles(h.process())
	}
	return nil
}

// introduce makes two boxes known to each other.
func (t *town) introduce(ctx context.Context) error {
	for i, h := range t.homes {
		other := t.homes[1-i]
		h.Stop()
		h.Config = fmt.Sprintf("[[s2s.route]]\ndomain = %q\naddress = %q\n\n", other.Domain, other.ServerAddr())
		h.Tables["s2s"] = fmt.Sprintf("system_roots = false\ntrust = [%q]\n", other.Authority())
		if err := h.up(ctx); err != nil {
			return err
		}
	}
	return nil
}

// befriend makes partners see each other.
func (t *town) befriend(ctx context.Context) error {
	var clients []*testclient.Client
	var agreed sync.WaitGroup
	for _, a := range t.accounts {
		cfg, err := a.home.ClientConfig(a.name, password, "setup")
		if err != nil {
			return err
		}
		agreed.Add(len(a.partners))
		cfg.On = func(c *testclient.Client, st *frame.Element) bool {
			switch st.Attr("type") {
			case "subscribe":
				_ = c.Send("<presence type='subscribed' to='" + bare(st.Attr("from")) + "'/>")
			case "subscribed":
				agreed.Done()
			}
			return st.Name == "presence"
		}
		c, err := testclient.Dial(ctx, cfg)
		if err != nil {
			return err
		}
		clients = append(clients, c)
		if _, err := c.IQ(ctx, "get", "", "<query xmlns='jabber:iq:roster'/>"); err != nil {
			return err
		}
		if err := c.Send("<presence/>"); err != nil {
			return err
		}
	}
	for i, a := range t.accounts {
		for _, p := range a.partners {
			if err := clients[i].Send("<presence type='subscribe' to='" + p.jid + "'/>"); err != nil {
				return err
			}
		}
	}
	done := make(chan struct{})
	go func() { agreed.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.New("the accounts did not become contacts")
	}
	for _, c := range clients {
		c.Close(ctx)
	}
	return nil
}

// live lets everybody come and go, and the boxes, too.
func (t *town) live(ctx context.Context) error {
	whole := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg, watching sync.WaitGroup
	for _, d := range t.devices {
		wg.Go(func() { d.live(ctx) })
	}
	errs := make(chan error, len(t.homes))
	for i, h := range t.homes {
		wg.Go(func() { errs <- t.disturb(ctx, h, rand.New(rand.NewPCG(t.seed, 1<<32|uint64(i)))) })
		watching.Go(func() { h.watch.run(ctx, h) })
	}
	watching.Go(func() { t.report(ctx) })
	select {
	case <-time.After(t.time):
	case <-ctx.Done():
	}
	close(t.over)
	wg.Wait()
	cancel()
	watching.Wait()
	err := whole.Err()
	for range t.homes {
		err = errors.Join(err, <-errs)
	}
	return err
}

// disturb restarts a box in an orderly way, kills it, restarts it once more, and so on.
func (t *town) disturb(ctx context.Context, h *home, rng *rand.Rand) error {
	began := time.Now()
	for i := range t.restarts {
		at := time.Duration((float64(i+1) + rng.Float64()*0.5 - 0.25) / float64(t.restarts+1) * float64(t.time))
		select {
		case <-time.After(time.Until(began.Add(at))):
		case <-t.over:
			return nil
		case <-ctx.Done():
			return nil
		}
		h.runs.Add(1)
		how := "restarted"
		if i%2 == 1 {
			h.kills.Add(1)
			h.Kill()
			how = "killed"
		} else {
			h.Stop()
		}
		pause(ctx, time.Duration(rng.Int64N(int64(2*time.Second))))
		if err := h.up(ctx); err != nil {
			return err
		}
		fmt.Printf("%5.0f s: %s was %s\n", time.Since(began).Seconds(), h.Domain, how)
	}
	return nil
}

func (t *town) report(ctx context.Context) {
	began := time.Now()
	for {
		select {
		case <-time.After(time.Minute):
			fmt.Printf("%5.0f s: %s\n", time.Since(began).Seconds(), t.count.line())
		case <-ctx.Done():
			return
		}
	}
}

// maxShown is how many discrepancies are shown in full.
const maxShown = 30

// problem notes a discrepancy. d is nil where it is no device's.
func (t *town) problem(d *device, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.problems++; t.problems > maxShown {
		return
	}
	who := ""
	if d != nil {
		who = fmt.Sprintf(" %s/%s (acknowledges: %t, carbons: %t, priority %d)", d.account.jid, d.resource, d.acknowledges, d.carbons, d.priority)
	}
	fmt.Printf("DISCREPANCY %d at %s, seed %d%s: %s\n", t.problems, time.Now().Format("15:04:05.000"), t.seed, who, fmt.Sprintf(format, args...))
}

func (t *town) stop() {
	for _, h := range t.homes {
		h.Stop()
	}
}

func bare(jid string) string {
	b, _, _ := strings.Cut(jid, "/")
	return b
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
