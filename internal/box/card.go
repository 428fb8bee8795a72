package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/card"
	"pibox/internal/health"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
	"pibox/internal/xmpp/sasl"
)

// onCard is what a box on the card image has beside: somebody with a screen or a card reader, and no terminal.
type onCard struct {
	run     string        // what the card's part tells the daemon (internal/card)
	reports string        // where the daemon tells it how it is
	poke    chan struct{} // something changed that the report tells
}

// SetCard tells the daemon that it runs on the card image; run is card.Place.Run. Call it before Serve.
func (d *Daemon) SetCard(run string) {
	d.card = &onCard{run: run, reports: filepath.Dir(d.cfg.Admin.Socket), poke: make(chan struct{}, 1)}
}

// restoreFrom are the folders in which a backup may lie ready.
func (d *Daemon) restoreFrom() []string {
	list := d.config().Backup.RestoreFrom
	if d.card == nil {
		return list
	}
	return append([]string{filepath.Join(d.card.run, card.RestoreFolder)}, list...)
}

// mayBegin tells why a box without a database must not begin as a new family.
func (d *Daemon) mayBegin() error {
	if d.card == nil {
		return nil
	}
	orders, err := card.ReadOrders(d.card.run)
	if err == nil && orders.Hold != "" {
		err = errors.New(orders.Hold)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

const (
	// loginFile, in the data folder, is the way in that is shown until somebody used it.
	loginFile = "login.json"
	// oneTimeLife is how long a password that the box made works after its first login.
	oneTimeLife = 7 * 24 * time.Hour
)

// wayIn is what the loginFile says.
type wayIn struct {
	card.Login
	Order string `json:"order,omitempty"`
}

func (d *Daemon) loginPath() string { return filepath.Join(d.config().DataDir, loginFile) }

func (d *Daemon) wayIn() (w wayIn, ok bool) {
	raw, err := os.ReadFile(d.loginPath())
	if err == nil {
		err = json.Unmarshal(raw, &w)
	}
	return w, err == nil
}

// keepWayIn is durable before the password counts: it can be shown whenever it does.
func (d *Daemon) keepWayIn(w wayIn) error {
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	path := d.loginPath()
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".part", path); err != nil {
		return err
	}
	return store.SyncDir(filepath.Dir(path))
}

func (d *Daemon) dropWayIn() {
	if err := os.Remove(d.loginPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn("a password that was used stays on the disk", "error", err)
	}
}

// offerWayIn makes the first administrator of a box on a card, or gives one a new password where a person ordered that there. A power cut anywhere leaves
// a way in that is shown; what was made and not shown yet is made anew.
func (d *Daemon) offerWayIn(s *service) error {
	orders, err := card.ReadOrders(d.card.run)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.box.Accounts.OnFirstLogin(d.firstLogin(s.box))
	var begun bool
	var last string
	if err := s.box.Store.View(func(tx *store.Tx) error {
		_, begun = accounts.Begun(tx)
		last = accounts.LastOrder(tx)
		return nil
	}); err != nil {
		return err
	}
	if orders.Recover == last {
		orders.Recover = ""
	}
	switch err = nil; {
	case !begun:
		err = d.offerFirst(s, orders)
	case orders.Recover != "":
		err = d.offerAgain(s, orders)
	}
	if err != nil {
		return err
	}
	return d.settleWayIn(s)
}

func (d *Daemon) offerFirst(s *service, orders card.Orders) error {
	j, err := s.box.Accounts.Parse(orders.Administrator)
	if err != nil {
		d.health.Set(health.Fact{Name: "administrator", Severity: health.Degraded, Text: err.Error()})
		if j, err = s.box.Accounts.Parse("admin"); err != nil {
			return err
		}
	}
	if had, ok := d.wayIn(); ok && orders.Recover == "" && had.Address == j.String() && (orders.Password == "" || had.Given) {
		if good, err := s.box.Accounts.Offered(j, had.Password); good || err != nil {
			return err
		}
	}
	w := wayIn{Login: card.Login{Address: j.String()}, Order: orders.Recover}
	err = d.offerBy(orders.Password, w, j, s.box.Accounts.OfferFirst)
	var refused *sasl.PasswordError
	if errors.As(err, &refused) {
		d.health.Set(health.Fact{Name: "administrator", Severity: health.Degraded, Text: "administrator.password: " + err.Error()})
		err = d.offerBy("", w, j, s.box.Accounts.OfferFirst)
	}
	return err
}

func (d *Daemon) offerAgain(s *service, orders card.Orders) error {
	j, err := s.box.Accounts.Administrator(orders.Administrator)
	if err != nil {
		return err
	}
	return d.offerBy("", wayIn{Login: card.Login{Address: j.String()}, Order: orders.Recover}, j, s.box.Accounts.OfferAgain)
}

// offerBy lets a password count, which it makes where a person chose none, once that can be shown.
func (d *Daemon) offerBy(password string, w wayIn, j xmpp.JID, offer func(accounts.Offer) error) error {
	o := accounts.Offer{Account: j, Password: password, Order: w.Order}
	if w.Given = password != ""; !w.Given {
		o.Password, o.Grace = accounts.OneTimePassword(), oneTimeLife
		w.Password = o.Password
	}
	if err := d.keepWayIn(w); err != nil {
		return err
	}
	return offer(o)
}

// settleWayIn removes a way in that was used, or never counted.
func (d *Daemon) settleWayIn(s *service) error {
	w, ok := d.wayIn()
	if !ok {
		d.dropWayIn()
		return nil
	}
	j, err := xmpp.ParseJID(w.Address)
	good := false
	if err == nil {
		good, err = s.box.Accounts.Offered(j, w.Password)
	}
	if err == nil && !good {
		d.dropWayIn()
	}
	return err
}

// firstLogin ends what is shown and tells the administrator, in the chat, to choose a password.
func (d *Daemon) firstLogin(b *Box) accounts.OnFirstLogin {
	return func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, until *time.Time) {
		if until != nil {
			b.delivery.Queue(tx, out, account, changePassword(account, b.cfg.Language, *until))
		}
		out.After(func() {
			go func() { // never in the committer's way
				d.dropWayIn()
				d.tellCard()
			}()
		})
	}
}

func changePassword(account xmpp.JID, language string, until time.Time) *xmpp.Stanza {
	texts := map[string]string{
		"en": "Welcome! You are logged in with the password that the box made. Choose your own now, in the settings of your account in the app: this one works only until %s.",
		"de": "Willkommen! Du hast dich mit dem Passwort angemeldet, das die Box gemacht hat. Wähle jetzt dein eigenes, in der App bei den Einstellungen deines Kontos: Dieses gilt nur bis %s.",
		"fr": "Bienvenue ! Vous vous êtes connecté avec le mot de passe créé par la box. Choisissez maintenant le vôtre, dans les réglages de votre compte : celui-ci ne vaut que jusqu’au %s.",
	}
	lang, _, _ := strings.Cut(strings.ToLower(language), "-")
	if texts[lang] == "" {
		lang = "en"
	}
	body := fmt.Sprintf(texts[lang], until.Local().Format("2006-01-02 15:04"))
	x := xmpp.NewXML("message").Attr("from", account.Host().String()).Attr("to", account.String())
	return xmpp.Make(x.Attr("id", "welcome-"+until.Format("20060102T150405")).Attr("xml:lang", lang).Leaf("body", "", body).Bytes())
}

// tellCard has the report written anew.
func (d *Daemon) tellCard() {
	if d.card == nil {
		return
	}
	select {
	case d.card.poke <- struct{}{}:
	default:
	}
}

const cardEvery = 5 * time.Second

// watchCard takes up what the card's part finds out, and tells it how the box is, until ctx ends.
func (d *Daemon) watchCard(ctx context.Context) {
	changes, cancel := d.health.Changes()
	defer cancel()
	timer := time.NewTicker(cardEvery)
	defer timer.Stop()
	var known map[string]bool
	var last []byte
	clock := newDrift()
	for {
		known = d.cardFacts(known)
		d.watchOneTime(clock.moved())
		last = d.report(last)
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-d.card.poke:
		case <-timer.C:
		}
	}
}

const cardFact = "card/"

// cardFacts makes the facts of the card's part the box's own.
func (d *Daemon) cardFacts(known map[string]bool) map[string]bool {
	list, err := card.ReadFacts(d.card.run)
	if err != nil {
		return known
	}
	now := map[string]bool{}
	for _, f := range list {
		now[f.Name] = true
		d.health.Set(health.Fact{Name: cardFact + f.Name, Severity: health.State(f.Severity), Text: f.Text})
	}
	for name := range known {
		if !now[name] {
			d.health.Clear(cardFact + name)
		}
	}
	return now
}

// report writes what changed.
func (d *Daemon) report(last []byte) []byte {
	r := d.cardReport()
	raw, err := json.Marshal(r)
	if err != nil || string(raw) == string(last) {
		return last
	}
	if err := card.WriteReport(d.card.reports, r); err != nil {
		d.log.Warn("the card can not be told how the box is", "error", err)
		return last
	}
	return raw
}

func (d *Daemon) cardReport() card.Report {
	snap, cfg := d.health.Snapshot(), d.config()
	r := card.Report{State: string(snap.State), Family: cfg.Family, Facts: []card.Fact{}, Domains: []string{}, Certificates: []card.Certificate{}}
	for _, reason := range snap.Reasons {
		if reason.Severity != health.Moving && !strings.HasPrefix(reason.Name, cardFact) {
			r.Facts = append(r.Facts, card.Fact{Name: reason.Name, Severity: string(reason.Severity), Text: reason.Text})
		}
	}
	s := d.running()
	if s == nil {
		return r
	}
	r.Serving = true
	r.Domains = append(r.Domains, s.box.Router.Domains()...)
	for _, l := range s.listeners {
		if l.name == "c2s" && r.Port == "" {
			r.Port = port(l.Addr())
		}
	}
	for _, c := range s.certificates() {
		if c.Family {
			r.Certificates = append(r.Certificates, card.Certificate{Domain: c.Domain, SHA256: c.SHA256})
		}
	}
	_ = s.box.Store.View(func(tx *store.Tx) error {
		r.Recovered = accounts.LastOrder(tx)
		offered, begun := accounts.Begun(tx)
		r.Begun = begun || offered != ""
		if w, ok := d.wayIn(); ok {
			if acc, there := store.Accounts.Get(tx, w.Address); there && acc.Fresh {
				r.Login = &w.Login
			}
		}
		return nil
	})
	return r
}

const factOneTime = "one-time"

// watchOneTime reminds of passwords that are about to end. The clock's leaps are no time that passed.
func (d *Daemon) watchOneTime(leap time.Duration) {
	s := d.running()
	if s == nil {
		return
	}
	first, err := s.box.Accounts.Extend(leap)
	switch {
	case err != nil:
		d.log.Warn("one-time passwords could not be looked at", "error", err)
	case first.IsZero():
		d.health.Clear(factOneTime)
	default:
		d.health.Set(health.Fact{Name: factOneTime, Severity: health.Degraded, Text: "an administrator still has the password that the box made: choose another one in the app. It ends to work on " +
			first.Local().Format(time.DateOnly) + "."})
	}
}

// drift finds out when the wall clock is set forward: a board without a battery learns the time from the network, long after its start.
type drift struct{ wall, steady time.Time }

const leapAtLeast = 5 * time.Minute

func newDrift() *drift {
	now := time.Now()
	return &drift{now.Round(0), now}
}

// moved is by how much the clock was set forward since it was last asked.
func (c *drift) moved() time.Duration {
	now := time.Now()
	leap := now.Round(0).Sub(c.wall) - now.Sub(c.steady)
	c.wall, c.steady = now.Round(0), now
	if leap < leapAtLeast {
		return 0
	}
	return leap
}
