package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/health"
	"pibox/internal/store"
	"pibox/internal/update"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

// ConfigSource is where the configuration of a daemon comes from. Each may be left out.
type ConfigSource struct {
	File func() string                 // the file in use, "" for none
	Load func() (config.Config, error) // reads it again
	// Options are those by which commands find this box, such as " --data-dir DIR"; "" where they do without.
	Options string
}

// Daemon runs a box: it stays up, and tells its state, while the store is unusable, and opens it again with back-off.
type Daemon struct {
	cfg     config.Config // see config
	source  ConfigSource
	version string
	log     *slog.Logger
	out     io.Writer // what a person must see once
	health  *health.Health
	started time.Time
	pause   time.Duration // before the second try to serve; it doubles, up to maxPause

	troubles map[string]string // why it does not serve, by fact; run's own
	first    firstTry          // run's own
	handing  handing
	card     *onCard // nil where there is none

	// OnStep is told of each step of a handover, so that tests can end the process there. May be nil.
	OnStep func(step string)

	importing sync.Mutex // one import at a time

	place   update.Place
	waiting atomic.Bool // for the confirmation of a system that is tried

	mu      sync.Mutex
	service *service // nil while it does not serve
	known   overview // while it does not serve: what was found in the store
}

const maxPause = time.Minute

// NewDaemon makes a daemon. What a person at the terminal must see once goes to out.
func NewDaemon(cfg config.Config, version string, log *slog.Logger, out io.Writer) *Daemon {
	return &Daemon{
		cfg: cfg, version: version, log: log, out: out, started: time.Now(), pause: time.Second, health: health.New(time.Now, version, log),
		place: update.Place{}.Defaults(),
	}
}

// SetSource tells where the configuration comes from. Call it before Serve.
func (d *Daemon) SetSource(s ConfigSource) { d.source = s }

// config is the configuration in force: a restored box brings its own.
func (d *Daemon) config() config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

func (d *Daemon) configFile() string {
	if d.source.File == nil {
		return ""
	}
	return d.source.File()
}

// Serve runs the daemon until ctx ends. It fails only where another one has the admin socket, or that can not be made.
func (d *Daemon) Serve(ctx context.Context) error {
	lights := d.leds()
	socket, err := admin.Listen(d.cfg.Admin.Socket, d.cfg.Admin.Group)
	if err != nil {
		return err
	}
	log := d.log
	inner, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	sd := health.NewSystemd(d.health, log)
	wg.Go(func() { sd.Run(inner) })
	wg.Go(func() { health.NewLEDs(d.health, lights, log).Run(inner) })
	wg.Go(func() { health.NewPulse(d.health, d.roundTrip, sd.Interval(), sd.Alive, log).Run(inner) })
	wg.Go(func() {
		if err := admin.NewServer(log, admin.Methods(d)...).Serve(inner, socket); err != nil {
			d.health.Set(health.Fact{Name: "admin", Severity: health.Degraded, Text: "commands can not reach the box: " + err.Error()})
		}
	})
	wg.Go(func() { d.watch(inner) })
	if d.card != nil {
		wg.Go(func() { d.watchCard(inner) })
	}
	d.run(ctx)
	stop()
	wg.Wait()
	return nil
}

// run keeps a service going until ctx ends.
func (d *Daemon) run(ctx context.Context) {
	for wait := d.pause; ctx.Err() == nil; wait = min(wait*2, maxPause) {
		began := time.Now()
		err := d.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if err = d.handOver(ctx, err); err == nil {
			wait = d.pause / 2
			continue
		}
		if time.Since(began) > maxPause {
			wait = d.pause
		}
		d.notServing(err, wait)
		d.health.Ready() // systemd must not wait for a card that is broken
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	d.stopHanding()
	d.health.Stopping()
}

// notServing tells why; health logs what is new, so that a lasting trouble is in the log once.
func (d *Daemon) notServing(err error, wait time.Duration) {
	now := map[string]string{}
	for _, e := range portErrors(err) {
		now["port/"+e.address] = e.text
	}
	if len(now) == 0 {
		now["serving"] = err.Error()
	}
	d.clearTroubles(now)
	for name, text := range now {
		d.health.Set(health.Fact{Name: name, Severity: health.Failing, Text: text})
	}
	d.troubles = now
	d.log.Debug("not serving", "error", err, "again in", wait)
}

// clearTroubles ends what notServing told, but for what is still so.
func (d *Daemon) clearTroubles(but map[string]string) {
	for name := range d.troubles {
		if _, still := but[name]; !still {
			d.health.Clear(name)
		}
	}
	d.troubles = but
}

// once opens the store and serves until ctx ends or the store or a listener fails.
func (d *Daemon) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := d.tryStore(ctx); err != nil {
		return err
	}
	cfg := d.config()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	unlock, err := lockFolder(cfg.DataDir)
	if err != nil {
		return errBusyFolder(err)
	}
	defer unlock()
	st, err := store.Open(StorePath(cfg), store.Options{
		Log: d.log, Reserve: int64(cfg.Store.Reserve), QueueBytes: int64(cfg.Store.QueueBytes),
		OnFailure: func(err error) { cancel(fmt.Errorf("the store failed: %w", err)) },
		WayBack:   d.unconfirmed(),
	})
	if err != nil {
		return err
	}
	if given, err := d.closedFor(st); given || err != nil {
		if err == nil {
			err = d.stayClosed(ctx, st)
		}
		return errors.Join(err, st.Close())
	}
	s, err := d.open(st)
	if err != nil {
		_ = st.Close()
		return err
	}
	if err := d.beforeServing(ctx, s, st); err != nil {
		s.closeListeners()
		return errors.Join(err, st.Close())
	}
	d.set(s)
	d.tellCard()
	defer d.set(nil)
	defer d.serveUntil(cancel)()
	d.clearTroubles(nil)
	d.watchCertificates() // watch began before there was anything to look at
	d.watchKeys()
	d.health.Ready()
	d.log.Info("serving", "domains", s.box.Router.Domains(), "version", d.version)
	go func() {
		<-ctx.Done()
		if context.Cause(ctx) == context.Canceled {
			d.health.Stopping()
		}
	}()
	if err := s.run(ctx, d.log); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// beforeServing is what has to be done before anybody is served.
func (d *Daemon) beforeServing(ctx context.Context, s *service, st *store.Store) error {
	if err := d.mayServe(ctx, StorePath(d.config())); err != nil {
		return err
	}
	if err := d.firstAdministrator(s); err != nil {
		return err
	}
	return d.tellHeld(st)
}

// overview is what status tells also while a port is taken.
type overview struct {
	domains []string
	users   int
}

func (d *Daemon) open(st *store.Store) (*service, error) {
	domains, err := d.domains(st)
	if err != nil {
		return nil, err
	}
	if err := d.survey(st, domains); err != nil {
		return nil, err
	}
	b, err := New(st, d.config(), domains, d.version, nil, d.log)
	if err != nil {
		return nil, err
	}
	return b.open()
}

// tryStore looks at what there is before anything is opened: it finishes what a stop left half, begins with a backup where there is no database, and
// reads one that is there in a child process.
func (d *Daemon) tryStore(ctx context.Context) error {
	cfg := d.config()
	if err := takeUp(ctx, cfg, d.log); err != nil {
		return err
	}
	path := StorePath(cfg)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.firstStart(ctx)
	}
	if err != nil {
		return nil // Open says why not
	}
	err = CheckStore(ctx, path)
	if errors.Is(err, store.ErrNewer) {
		err = d.takeBefore(ctx, path, err)
	}
	if errors.Is(err, store.ErrDamaged) {
		return fmt.Errorf("the database %s is damaged: stop the box, then `pibox restore FILE --replace`", path)
	}
	if err != nil {
		return fmt.Errorf("the database can not be used: %w", err)
	}
	return nil
}

const domainSetting = "domain"

// domains are those of the configuration; without any, the one that was fixed at the first start.
func (d *Daemon) domains(st *store.Store) ([]string, error) {
	if len(d.cfg.Domains) > 0 {
		var out []string
		for _, name := range d.cfg.Domains {
			j, err := xmpp.ParseJID(name)
			if err != nil || j.String() != j.Domain {
				return nil, fmt.Errorf("%q is no domain", name)
			}
			out = append(out, j.Domain)
		}
		return out, d.fix(st, out[0])
	}
	var fixed string
	if err := st.View(func(tx *store.Tx) error {
		if offered, begun := accounts.Begun(tx); offered != "" && !begun {
			return nil
		}
		if raw, ok := store.Settings.Get(tx, domainSetting); ok {
			return json.Unmarshal(raw, &fixed)
		}
		return nil
	}); err != nil || fixed != "" {
		return []string{fixed}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	j, err := xmpp.ParseJID(host + ".local")
	if err != nil {
		j = xmpp.JID{Domain: "pibox.local"}
	}
	return []string{j.Domain}, d.fix(st, j.Domain)
}

// fix remembers the main domain of the first start: a new host name never changes it. A family that nobody logged in to has not begun.
func (d *Daemon) fix(st *store.Store, domain string) error {
	return st.Update(func(tx *store.Tx) error {
		offered, begun := accounts.Begun(tx)
		if _, ok := store.Settings.Get(tx, domainSetting); ok && (begun || offered == "") {
			return nil
		}
		raw, err := json.Marshal(domain)
		store.Settings.Put(tx, domainSetting, raw)
		return err
	})
}

// firstAdministrator makes the account that a new box begins with, and shows its one-time password once.
func (d *Daemon) firstAdministrator(s *service) error {
	if d.card != nil {
		return d.offerWayIn(s)
	}
	empty := true
	if err := s.box.Store.View(func(tx *store.Tx) error {
		for range store.Accounts.All(tx) {
			empty = false
			break
		}
		return nil
	}); err != nil || !empty {
		return err
	}
	j := xmpp.JID{Local: "admin", Domain: s.box.Router.Domains()[0]}
	password, err := s.box.Accounts.Create(j, "", accounts.Role{Admin: true})
	if err != nil {
		return err
	}
	_, err = io.WriteString(d.out, s.welcome(j, password, d.source.Options))
	return err
}

// leds are the lights of the configuration; "auto" is the board's own, under its newer or older name.
func (d *Daemon) leds() health.LEDConfig {
	h := d.cfg.Health
	cfg := health.LEDConfig{Dir: h.LEDDir, Pin: h.GPIO, PinActiveLow: h.GPIOActiveLow}
	if h.StatusLED == "auto" && h.PowerLED == "auto" {
		return cfg
	}
	cfg.Names = []string{}
	for _, c := range []struct{ name, newer, older string }{{h.StatusLED, "ACT", "led0"}, {h.PowerLED, "PWR", "led1"}} {
		switch c.name {
		case "none":
		case "auto":
			for _, name := range []string{c.newer, c.older} {
				if _, err := os.Stat(filepath.Join(h.LEDDir, name)); err == nil {
					cfg.Names = append(cfg.Names, name)
					break
				}
			}
		default:
			cfg.Names = append(cfg.Names, c.name)
		}
	}
	return cfg
}

// survey looks at who lives here before anything is served, and tells of accounts that the configuration has left behind.
func (d *Daemon) survey(st *store.Store, domains []string) error {
	known := overview{domains: domains}
	unserved := map[string]int{}
	if err := st.View(func(tx *store.Tx) error {
		for key := range store.Accounts.All(tx) {
			known.users++
			if _, domain, _ := strings.Cut(key, "@"); !slices.Contains(domains, domain) {
				unserved[domain]++
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if len(unserved) == 0 {
		d.health.Clear("domains")
	} else {
		d.health.Set(health.Fact{Name: "domains", Severity: health.Degraded, Text: unservedText(unserved)})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = known
	return nil
}

func unservedText(unserved map[string]int) string {
	var parts []string
	for _, domain := range slices.Sorted(maps.Keys(unserved)) {
		n, are := unserved[domain], "accounts are"
		if n == 1 {
			are = "account is"
		}
		parts = append(parts, fmt.Sprintf("%d %s at %s, which this box no longer serves: add it to domains", n, are, domain))
	}
	return strings.Join(parts, "; ")
}

func (d *Daemon) set(s *service) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.service = s
}

func (d *Daemon) running() *service {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.service
}

// roundTrip is what the watchdog waits for: through the router and the committer and back, without a write.
func (d *Daemon) roundTrip(ctx context.Context) error {
	s := d.running()
	switch {
	case s == nil && d.handingOver():
		return nil // it has time limits of its own
	case s == nil:
		return health.ErrStoreUnusable
	}
	return s.box.Router.Ping(ctx)
}
