package box

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/admin"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/xmpp"
)

const (
	// maxMigration is how long a migration may take. Its server may be away for a while, and its archive be long.
	maxMigration = 48 * time.Hour
	// maxMigrations at the same time: each may hold some MiB, and the old server's pace is not ours. The others wait for their turn.
	maxMigrations = 4
	// maxAllMigrations that are not over.
	maxAllMigrations = 64
)

// migrations are the sessions of this box at other servers, one for each account that comes or goes. They are in memory alone, as the passwords are.
type migrations struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	turns  chan struct{} // holds one of each that has its turn

	mu    sync.Mutex
	byNew map[xmpp.JID]*migration
}

// migration is one of them.
type migration struct {
	cancel context.CancelFunc
	turns  chan struct{}
	turn   bool          // has its turn
	ready  chan struct{} // closed when it is logged in, has to wait for its turn, or is over
	once   sync.Once
	done   chan struct{} // closed at its end

	mu     sync.Mutex
	is     admin.Migration
	losses portable.Losses
}

func newMigrations() *migrations {
	t := &migrations{byNew: map[xmpp.JID]*migration{}, turns: make(chan struct{}, maxMigrations)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// stop ends all of them and waits.
func (ts *migrations) stop() {
	ts.cancel()
	ts.wg.Wait()
}

// begin starts one, unless it is under way, and returns when it is logged in, waits for its turn, or is over.
func (ts *migrations) begin(ctx context.Context, is admin.Migration, new xmpp.JID, run func(ctx context.Context, t *migration) error) (admin.Migration, error) {
	ts.mu.Lock()
	t := ts.byNew[new]
	running, elsewhere := 0, ""
	for to, other := range ts.byNew {
		was := other.state()
		idle := was.State == admin.MigrationRepeating && was.Counts.Unreached == 0
		if !was.State.Over() && !idle {
			running++
		}
		if !was.State.Over() && was.Kind == kindBring && is.Kind == kindBring && was.Old == is.Old && to != new {
			elsewhere = was.New
		}
	}
	switch {
	case elsewhere != "":
		ts.mu.Unlock()
		return is, admin.Errorf(admin.CodeBusy, "%s is on its way to %s already", is.Old, elsewhere).
			Then("The same command with %s and --stop ends that.", elsewhere)
	case ts.ctx.Err() != nil:
		ts.mu.Unlock()
		return is, admin.Errorf(admin.CodeBusy, "the box is stopping")
	case t != nil && !t.state().State.Over():
		ts.mu.Unlock()
		if was := t.state(); was.Old != is.Old || was.Kind != is.Kind {
			return is, admin.Errorf(admin.CodeBusy, "%s is on its way to %s already", was.Old, was.New)
		}
		return t.state(), nil
	case running >= maxAllMigrations:
		ts.mu.Unlock()
		return is, admin.Errorf(admin.CodeBusy, "%d accounts are on their way already", running).Then("Try again when one of them is there.")
	}
	is.State, is.Began = admin.MigrationConnecting, time.Now().UTC()
	t = &migration{is: is, ready: make(chan struct{}), done: make(chan struct{}), turns: ts.turns}
	ts.byNew[new] = t
	long, cancel := context.WithTimeout(ts.ctx, maxMigration)
	t.cancel = cancel
	ts.wg.Go(func() {
		defer close(t.done)
		defer cancel()
		err := t.take(long)
		if err == nil {
			err = run(long, t)
		}
		t.yield()
		t.end(err)
	})
	ts.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done(): // it goes on
	}
	now := t.state()
	if now.State == admin.MigrationFailed {
		return now, now.Error
	}
	return now, nil
}

// get gives that to an address; nil: there was none since the box was started.
func (ts *migrations) get(new xmpp.JID) *migration {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.byNew[new]
}

func (t *migration) state() admin.Migration {
	t.mu.Lock()
	defer t.mu.Unlock()
	is := t.is
	is.Losses = []admin.MigrationLoss{}
	for _, l := range t.losses.List() {
		is.Losses = append(is.Losses, admin.MigrationLoss{What: l.What, Why: l.Why, Count: l.Count})
	}
	return is
}

func (t *migration) change(f func(is *admin.Migration)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.is)
}

// take waits for the turn. The first time it is told to who asked for the migration.
func (t *migration) take(ctx context.Context) error {
	select {
	case t.turns <- struct{}{}:
		t.turn = true
		return ctx.Err()
	default:
	}
	t.change(func(is *admin.Migration) {
		if is.State == admin.MigrationConnecting {
			is.State = admin.MigrationWaiting
		}
	})
	t.once.Do(func() { close(t.ready) })
	select {
	case t.turns <- struct{}{}:
		t.turn = true
	case <-ctx.Done():
		return ctx.Err()
	}
	t.change(func(is *admin.Migration) {
		if is.State == admin.MigrationWaiting {
			is.State = admin.MigrationConnecting
		}
	})
	return nil
}

func (t *migration) yield() {
	if t.turn {
		t.turn = false
		<-t.turns
	}
}

// pause lets others have their turn until something is to be repeated, or early says, each second, that there is something to do; nil says nothing.
func (t *migration) pause(ctx context.Context, wait time.Duration, early func() bool) error {
	t.change(func(is *admin.Migration) { is.State, is.Part = admin.MigrationRepeating, "" })
	t.yield()
	timer, look := time.NewTimer(wait), time.NewTicker(time.Second)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case <-timer.C:
			return t.take(ctx)
		case <-look.C:
			if early != nil && early() {
				return t.take(ctx)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// part tells what is being done; the first one also that it is logged in.
func (t *migration) part(what string) {
	t.change(func(is *admin.Migration) { is.State, is.Part = admin.MigrationRunning, what })
	t.once.Do(func() { close(t.ready) })
}

func (t *migration) lose(what portable.Loss) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.losses.Add(what)
}

func (t *migration) counts(c client.Counts) {
	t.change(func(is *admin.Migration) {
		is.Counts = admin.MigrationCounts{
			Contacts: c.Contacts, Requests: c.Requests, Waiting: c.Waiting, Nodes: c.Nodes, Items: c.Items, Private: c.Private,
			Blocked: c.Blocked, VCard: c.VCard, Archived: c.Archived, Bytes: c.Bytes, Told: is.Counts.Told,
		}
	})
}

// end notes how it ended.
func (t *migration) end(err error) {
	t.change(func(is *admin.Migration) {
		is.State, is.Part, is.Ended = admin.MigrationDone, "", time.Now().UTC()
		if err != nil {
			is.State, is.Error = admin.MigrationFailed, migrationError(err)
		}
	})
	t.once.Do(func() { close(t.ready) })
}

// migrationError tells a person why a migration failed.
func migrationError(err error) *admin.Error {
	var known *admin.Error
	var there *client.Error
	var none *client.NoStatement
	var refused *client.Refusal
	switch err = toldMove(err); {
	case errors.As(err, &known):
		return known
	case errors.As(err, &none):
		return admin.Errorf(admin.CodeFailed, "%v", err).
			Then("Everything else is here. With --unverified the move starts all the same, and every contact has to approve the new address.")
	case errors.As(err, &there):
		return admin.Errorf(admin.CodeFailed, "%v", there).Then("%s", there.Next())
	case errors.As(err, &refused):
		return admin.Errorf(admin.CodeFailed, "the other server %v", refused)
	case errors.Is(err, context.Canceled):
		return admin.Errorf(admin.CodeFailed, "it was stopped").Then("The same command begins it again.")
	case errors.Is(err, context.DeadlineExceeded):
		return admin.Errorf(admin.CodeFailed, "it took longer than two days").Then("The same command begins it again.")
	}
	return admin.Errorf(admin.CodeFailed, "%v", err)
}

// elsewhere is the way to an account at another server: what the configuration says of servers holds for their clients too.
func (b *Box) elsewhere(account xmpp.JID, password, server string, direct bool) (client.Config, error) {
	c := client.Config{Account: account, Password: password, Address: server, Direct: direct, Dial: b.dial}
	roots, err := trusted(b.cfg.S2S)
	if err != nil {
		return c, err
	}
	c.Roots = roots
	if server != "" {
		if host, port, err := net.SplitHostPort(server); err != nil || host == "" || port == "" {
			return c, admin.Errorf(admin.CodeInvalid, "%q is no host:port, such as chat.example:5222", server)
		}
	}
	for _, r := range b.cfg.S2S.Routes {
		if host, _, err := net.SplitHostPort(r.Address); err == nil && c.Address == "" && r.Domain == account.Domain {
			c.Address = net.JoinHostPort(host, "5222")
		}
	}
	if dns := b.cfg.DNS.Server; dns != "" {
		if _, _, err := net.SplitHostPort(dns); err != nil {
			dns = net.JoinHostPort(strings.Trim(dns, "[]"), "53")
		}
		c.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, dns)
		}}
	}
	return c, nil
}

// Migration implements admin.API.
func (d *Daemon) Migration(_ context.Context, req admin.MigrationRequest) (resp admin.MigrationResponse, err error) {
	b, new, t, err := d.migration(req)
	if err != nil {
		return resp, err
	}
	if t != nil {
		resp.Migration = t.state()
		return resp, nil
	}
	var ok bool
	if resp.Migration, ok = b.lastly(new); !ok {
		return resp, noMigration(new)
	}
	return resp, nil
}

// MigrationStop implements admin.API. What a restart interrupted is forgotten.
func (d *Daemon) MigrationStop(_ context.Context, req admin.MigrationRequest) (resp admin.MigrationResponse, err error) {
	b, new, t, err := d.migration(req)
	if err != nil {
		return resp, err
	}
	if t != nil && !t.state().State.Over() {
		t.cancel()
		resp.Migration = t.state()
		return resp, nil
	}
	was, ok, err := b.forget(new)
	if err == nil && !ok {
		err = noMigration(new)
	}
	resp.Migration = interrupted(was)
	return resp, err
}

func noMigration(new xmpp.JID) error {
	return admin.Errorf(admin.CodeNotFound, "nothing is on its way to %s", new).Then("'pibox move status --all' shows all moves.")
}

// migration finds one; nil: none is in memory.
func (d *Daemon) migration(req admin.MigrationRequest) (*Box, xmpp.JID, *migration, error) {
	s, err := d.serving()
	if err != nil {
		return nil, xmpp.JID{}, nil, err
	}
	name := req.New
	if !strings.Contains(name, "@") { // of an account that is brought
		j, err := s.box.newAddress(name)
		if err != nil {
			return nil, j, nil, told(err)
		}
		name = j.String()
	}
	new, err := s.box.anAddress(name)
	if err != nil {
		return nil, new, nil, told(err)
	}
	return s.box, new, s.box.migrations.get(new), nil
}

// again does something at another server until it works, or fails for good, or too often.
func again(ctx context.Context, do func() error) error {
	for wait := 5 * time.Second; ; wait *= 2 {
		err := do()
		if err == nil || !client.Again(err) || wait > 10*time.Minute {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// foreign refuses an address of this box.
func (b *Box) foreign(j xmpp.JID, next string) error {
	if slices.Contains(b.Router.Domains(), j.Domain) {
		return admin.Errorf(admin.CodeInvalid, "%s is on this box", j).Then("%s", next)
	}
	return nil
}
