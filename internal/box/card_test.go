package box

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/card"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/testclient"
	"pibox/internal/xmpp"
)

// cardBox is the data folder of a box on a card, and what the card's part tells it.
type cardBox struct {
	t         *testing.T
	data, run string
	domains   []string
}

func newCardBox(t *testing.T) *cardBox {
	return &cardBox{t: t, data: t.TempDir(), run: t.TempDir(), domains: []string{"home.example"}}
}

func (c *cardBox) tell(name string, v any) {
	c.t.Helper()
	raw, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.run, name), raw, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cardBox) serve(orders card.Orders) *daemon {
	c.t.Helper()
	c.tell("orders.json", orders)
	d := servePrepared(c.t, c.data, 0, func(cfg *config.Config) { cfg.Domains = c.domains }, func(d *Daemon) { d.SetCard(c.run) })
	d.hears("READY")
	return d
}

// reported waits for a report that fits.
func (d *daemon) reported(what string, fits func(card.Report) bool) (r card.Report) {
	d.t.Helper()
	path := filepath.Join(filepath.Dir(d.cfg.Admin.Socket), card.ReportFile)
	for late := time.Now().Add(patience); ; {
		raw, err := os.ReadFile(path)
		r = card.Report{}
		if err == nil && json.Unmarshal(raw, &r) == nil && fits(r) {
			return r
		}
		if time.Now().After(late) || !tick(d.t.Context(), 5*time.Millisecond) {
			d.t.Fatalf("%s: the report is %s", what, raw)
		}
	}
}

func offers(r card.Report) bool { return r.Serving && r.Login != nil }

func (c *cardBox) keepsNoPassword() {
	c.t.Helper()
	for late := time.Now().Add(patience); isThere(filepath.Join(c.data, loginFile)); {
		if time.Now().After(late) || !tick(c.t.Context(), 5*time.Millisecond) {
			c.t.Fatal("the password stays on the disk")
		}
	}
}

// refused tries to log in, and gives the server's words.
func refused(t *testing.T, d *daemon, account, password string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ca, err := d.client().Authority(ctx, admin.AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.PEM))
	address := ""
	for _, l := range d.status().Listeners {
		if l.Service == "c2s-tls" {
			address = l.Address
		}
	}
	c, err := testclient.Dial(ctx, testclient.Config{Addr: address, Direct: true, Account: account, Password: password, TLS: &tls.Config{RootCAs: roots}})
	if err == nil {
		c.Cut()
		return ""
	}
	return err.Error()
}

// The way in stands on the card until somebody used it, over restarts too.
func TestCardFirstLogin(t *testing.T) {
	c := newCardBox(t)
	d := c.serve(card.Orders{Administrator: "mum"})
	r := d.reported("first start", offers)
	if r.Login.Address != "mum@home.example" || len(r.Login.Password) != 24 || r.Login.Given || !r.Begun || r.Port == "" || len(r.Certificates) != 1 {
		t.Errorf("%+v", r)
	}
	if strings.Contains(d.out.String()+d.log.String(), r.Login.Password) {
		t.Error("the password is in the log")
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = c.serve(card.Orders{Administrator: "mum"})
	if again := d.reported("second start", offers); *again.Login != *r.Login {
		t.Errorf("%+v after %+v", again.Login, r.Login)
	}
	client := logIn(t, d, "mum@home.example", r.Login.Password)
	d.reported("after the login", func(r card.Report) bool { return r.Serving && r.Login == nil })
	c.keepsNoPassword()
	if err := client.Send("<presence/>"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		el, err := client.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(el.Raw), "Choose your own now") {
			break
		}
	}
	if words := strings.Join(d.status().Reasons, "; "); !strings.Contains(words, "still has the password that the box made") {
		d.reported("the reminder", func(r card.Report) bool { return len(r.Facts) == 1 && r.Facts[0].Name == factOneTime })
	}
	if s := refused(t, d, "mum@home.example", r.Login.Password); s != "" {
		t.Errorf("it works only once: %s", s)
	}
	// A week later it does not.
	s := d.daemon.running()
	if err := s.box.Store.Update(func(tx *store.Tx) error {
		acc, _ := store.Accounts.Get(tx, "mum@home.example")
		until := acc.Until.Add(-oneTimeLife)
		acc.Until = &until
		store.Accounts.Put(tx, "mum@home.example", acc)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if words := refused(t, d, "mum@home.example", r.Login.Password); !strings.Contains(words, "credentials-expired") {
		t.Errorf("a week later: %q", words)
	}
	if words := refused(t, d, "mum@home.example", "wrong"); !strings.Contains(words, "not-authorized") {
		t.Errorf("a wrong one: %q", words)
	}
	if _, err := d.client().UserPassword(t.Context(), admin.UserPasswordRequest{User: "mum", Password: "my own words"}); err != nil {
		t.Fatal(err)
	}
	logIn(t, d, "mum@home.example", "my own words")
	d.reported("with an own password", func(r card.Report) bool { return r.State == "well" })
}

// A password that the person wrote on the card is not shown, does not end, and is not asked to be changed.
func TestCardGivenPassword(t *testing.T) {
	c := newCardBox(t)
	d := c.serve(card.Orders{Administrator: "mum", Password: "correct horse"})
	if r := d.reported("first start", offers); !r.Login.Given || r.Login.Password != "" {
		t.Errorf("%+v", r.Login)
	}
	for _, later := range []string{"correct hoarse", "correct horse", ""} { // slips, and what was given is not told again
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		d = c.serve(card.Orders{Administrator: "mum", Password: later})
		d.reported("another password", offers)
	}
	logIn(t, d, "mum@home.example", "correct horse")
	r := d.reported("after the login", func(r card.Report) bool { return r.Serving && r.Login == nil })
	if len(r.Facts) > 0 {
		t.Errorf("%+v", r.Facts)
	}
	c.keepsNoPassword()
	// One that nobody could log in with gives way to one of the box's.
	c = newCardBox(t)
	d = c.serve(card.Orders{Administrator: "mum", Password: "a\u0000b"})
	if r := d.reported("a password that can not be used", offers); len(r.Login.Password) != 24 || len(r.Facts) != 1 || !strings.Contains(r.Facts[0].Text, "administrator.password") {
		t.Errorf("%+v", r)
	}
	// So does a name.
	c = newCardBox(t)
	d = c.serve(card.Orders{Administrator: "a b"})
	if r := d.reported("a name that can not be used", offers); r.Login.Address != "admin@home.example" || len(r.Facts) != 1 {
		t.Errorf("%+v", r)
	}
}

// Until somebody logged in, the family follows the settings: a slip in the first pibox.toml costs nothing.
func TestCardBeginsAnew(t *testing.T) {
	c := newCardBox(t)
	c.domains = nil
	var last card.Login
	for _, step := range []struct{ domain, name string }{{"", "admin"}, {"home.exmaple", "admin"}, {"home.example", "admin"}, {"home.example", "mum"}} {
		if c.domains = nil; step.domain != "" {
			c.domains = []string{step.domain}
		}
		d := c.serve(card.Orders{Administrator: step.name})
		r := d.reported(step.domain, offers)
		if r.Login.Password == last.Password || !strings.HasPrefix(r.Login.Address, step.name+"@") || !strings.HasSuffix(r.Login.Address, "@"+r.Domains[0]) || d.status().Users != 1 {
			t.Errorf("%+v: %+v", step, r.Login)
		}
		last = *r.Login
		if step.name == "mum" {
			logIn(t, d, last.Address, last.Password)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	}
	d := c.serve(card.Orders{Administrator: "dad"}) // it has begun
	if s := d.status(); s.Users != 1 {
		t.Errorf("%+v", s)
	}
	d.reported("begun", func(r card.Report) bool { return r.Serving && r.Login == nil })
	// The domain is fixed now, without a configuration too.
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	c.domains = nil
	if s := c.serve(card.Orders{}).status(); s.Domains[0] != "home.example" {
		t.Errorf("%+v", s.Domains)
	}
}

// An order for a new password is carried out once, whatever is told later, and ends the sessions of whoever had the old one.
func TestCardRecover(t *testing.T) {
	c := newCardBox(t)
	d := c.serve(card.Orders{Administrator: "mum", Password: "correct horse"})
	logIn(t, d, "mum@home.example", "correct horse")
	addUser(t, d, "kid", "the kid's own")
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	var first card.Report
	for round := range 3 {
		d = c.serve(card.Orders{Administrator: "mum", Recover: "order1"})
		r := d.reported("recovered", offers)
		if round == 0 {
			first = r
		}
		if r.Recovered != "order1" || r.Login.Address != "mum@home.example" || *r.Login != *first.Login {
			t.Errorf("round %d: %+v", round, r)
		}
		if words := refused(t, d, "mum@home.example", "correct horse"); !strings.Contains(words, "not-authorized") {
			t.Errorf("the old password: %q", words)
		}
		if round == 2 {
			logIn(t, d, "mum@home.example", r.Login.Password)
			d.reported("after the login", func(r card.Report) bool { return r.Serving && r.Login == nil })
			c.keepsNoPassword()
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	}
	d = c.serve(card.Orders{Administrator: "mum", Recover: "order1"}) // still told, not carried out again
	if r := d.reported("again", func(r card.Report) bool { return r.Serving }); r.Login != nil {
		t.Errorf("%+v", r.Login)
	}
	logIn(t, d, "mum@home.example", first.Login.Password)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	// Another name in the file: the administrator that there is gets it. Without any, one is made.
	d = c.serve(card.Orders{Administrator: "kid", Recover: "order2"})
	if r := d.reported("another name", offers); r.Login.Address != "mum@home.example" {
		t.Errorf("%+v", r.Login)
	}
	if _, err := d.client().UserRemove(t.Context(), admin.UserRemoveRequest{User: "mum"}); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = c.serve(card.Orders{Administrator: "kid", Recover: "order3"})
	r := d.reported("no administrator", offers)
	if r.Login.Address != "admin@home.example" {
		t.Errorf("%+v", r.Login)
	}
	logIn(t, d, r.Login.Address, r.Login.Password)
}

// A box whose first way in was never used gets another one, and the order is done.
func TestCardRecoverBeforeTheFirstLogin(t *testing.T) {
	c := newCardBox(t)
	d := c.serve(card.Orders{Administrator: "mum"})
	first := d.reported("first start", offers)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d = c.serve(card.Orders{Administrator: "mum", Recover: "order1"})
	r := d.reported("recovered", offers)
	if r.Recovered != "order1" || r.Login.Password == first.Login.Password {
		t.Errorf("%+v", r)
	}
	logIn(t, d, r.Login.Address, r.Login.Password)
}

// The power fails between the file and the database: in either order what is shown is what works.
func TestCardCuts(t *testing.T) {
	for name, damage := range map[string]func(c *cardBox, had wayIn){
		"the file was written, the account was not": func(c *cardBox, _ wayIn) { c.remove(StoreFile) },
		"the file is of another account":            func(c *cardBox, had wayIn) { had.Address = "dad@home.example"; c.write(had) },
		"the file has a password that never counted": func(c *cardBox, had wayIn) {
			had.Password = "aaaa-aaaa-aaaa-aaaa-aaaa"
			c.write(had)
		},
		"the file is torn": func(c *cardBox, _ wayIn) { c.put(loginFile, "{") },
		"the file is gone": func(c *cardBox, _ wayIn) { c.remove(loginFile) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCardBox(t)
			d := c.serve(card.Orders{Administrator: "mum"})
			d.reported("first start", offers)
			if err := d.stop(); err != nil {
				t.Fatal(err)
			}
			had, _ := d.daemon.wayIn()
			damage(c, had)
			d = c.serve(card.Orders{Administrator: "mum"})
			r := d.reported("after the cut", offers)
			logIn(t, d, r.Login.Address, r.Login.Password)
		})
	}
}

func (c *cardBox) put(name, text string) {
	if err := os.WriteFile(filepath.Join(c.data, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cardBox) write(w wayIn) {
	raw, err := json.Marshal(w)
	if err != nil {
		c.t.Fatal(err)
	}
	c.put(loginFile, string(raw))
}

func (c *cardBox) remove(name string) {
	if err := os.Remove(filepath.Join(c.data, name)); err != nil {
		c.t.Fatal(err)
	}
}

// What the card's part finds out is the box's own fault; and a box that must not begin does not.
func TestCardFacts(t *testing.T) {
	c := newCardBox(t)
	c.tell("facts.json", []card.Fact{{Name: "network", Severity: card.Degraded, Text: "the box has no network"}})
	d := c.serve(card.Orders{Administrator: "mum"})
	r := d.reported("degraded", func(r card.Report) bool { return r.State == "degraded" })
	if len(r.Facts) > 0 {
		t.Errorf("what the card's part told comes back: %+v", r.Facts)
	}
	c.tell("facts.json", []card.Fact{})
	d.daemon.tellCard()
	d.reported("well again", func(r card.Report) bool { return r.State == "well" })

	c = newCardBox(t)
	d = c.serve(card.Orders{Administrator: "mum", Hold: "the stick is missing"})
	r = d.reported("held", func(r card.Report) bool { return r.State == "failing" })
	if r.Serving || len(r.Facts) != 1 || r.Facts[0].Text != "the stick is missing" || isThere(filepath.Join(c.data, StoreFile)) {
		t.Errorf("%+v", r)
	}
}

// The backup that the card's part found is restored.
func TestCardRestores(t *testing.T) {
	old := t.TempDir()
	aBoxOnce(t, old, nil)
	file := filepath.Join(t.TempDir(), "pibox.toml")
	if err := os.WriteFile(file, []byte("domains = [\"home.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCardBox(t)
	ready := filepath.Join(c.run, card.RestoreFolder)
	if err := os.Mkdir(ready, 0o700); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "family.pibox")
	backedUpTo(t, old, file, backup)
	if err := os.Symlink(backup, filepath.Join(ready, firstBackup)); err != nil {
		t.Fatal(err)
	}
	d := c.serve(card.Orders{Administrator: "mum"})
	if r := d.reported("restored", func(r card.Report) bool { return r.Serving }); r.Login != nil || d.status().Users != 1 {
		t.Errorf("%+v", r)
	}
}

// The clock is set forward by months, after the first login: the password does not end by that.
func TestCardClockLeaps(t *testing.T) {
	c := newCardBox(t)
	d := c.serve(card.Orders{Administrator: "mum"})
	r := d.reported("first start", offers)
	logIn(t, d, r.Login.Address, r.Login.Password)
	until := func() (at time.Time) {
		if err := d.daemon.running().box.Store.View(func(tx *store.Tx) error {
			acc, _ := store.Accounts.Get(tx, "mum@home.example")
			at = *acc.Until
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := until()
	d.daemon.watchOneTime(1000 * time.Hour)
	if after := until(); !after.Equal(before.Add(1000 * time.Hour)) {
		t.Errorf("%v after %v", after, before)
	}
	if j := xmpp.MustJID("mum@home.example"); d.daemon.running().box.Accounts.LoggedIn(j) != nil {
		t.Error("it ended")
	}
	still := drift{wall: time.Now().Round(0).Add(-time.Hour), steady: time.Now()}
	if leap := still.moved(); leap < 59*time.Minute || leap > 61*time.Minute || still.moved() != 0 {
		t.Errorf("a leap of an hour is one of %v", leap)
	}
}
