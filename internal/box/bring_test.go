package box

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/testclient"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// elsewhere is another box, whose administrator nobody here is, and the authority that it is known by.
func elsewhere(t *testing.T, domain string) (d *daemon, address string, authority string) {
	t.Helper()
	d = serve(t, t.TempDir(), 0, func(c *config.Config) { c.Domains = []string{domain}; c.S2S.Enabled = false; c.Login.Delay = 0 })
	d.hears("READY=1")
	for _, l := range d.status().Listeners {
		if l.Service == "c2s-tls" {
			address = l.Address
		}
	}
	ca, err := d.client().Authority(t.Context(), admin.AuthorityRequest{})
	if err != nil {
		t.Fatal(err)
	}
	authority = filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, []byte(ca.PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	return d, address, authority
}

func logIn(t *testing.T, d *daemon, account, password string) *testclient.Client {
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
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Cut)
	return c
}

func addUser(t *testing.T, d *daemon, name, password string) {
	t.Helper()
	if _, err := d.client().UserAdd(t.Context(), admin.UserAddRequest{User: name, Password: password}); err != nil {
		t.Fatal(err)
	}
}

func sets(t *testing.T, c *testclient.Client, payloads ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, p := range payloads {
		if err := c.Set(ctx, "", p); err != nil {
			t.Fatal(err)
		}
	}
}

func gets(t *testing.T, c *testclient.Client, payload string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	el, err := c.IQ(ctx, "get", "", payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(el.Raw)
}

// over waits for the end of a migration.
func over(t *testing.T, d *daemon, new string) admin.Migration {
	t.Helper()
	for until := time.Now().Add(patience); ; {
		resp, err := d.client().Migration(t.Context(), admin.MigrationRequest{New: new})
		if err != nil || time.Now().After(until) {
			t.Fatalf("%+v, %v", resp, err)
		}
		if resp.Migration.State.Over() {
			return resp.Migration
		}
	}
}

const (
	roomItem = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='room@muc.example'><conference xmlns='urn:xmpp:bookmarks:1' name='Room'/></item></publish></pubsub>"
	keysItem = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:omemo:2:devices'><item id='current'><devices xmlns='urn:xmpp:omemo:2'/></item></publish></pubsub>"
	readRoom = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub>"
	readMove = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:moved:1'/></pubsub>"
	readCard = "<vCard xmlns='vcard-temp'/>"
)

// Juliet's account comes from a box whose administrator nobody here is: with her password alone.
func TestBring(t *testing.T) {
	old, address, authority := elsewhere(t, "old.example")
	addUser(t, old, "juliet", "wherefore-art")
	there := logIn(t, old, "juliet@old.example", "wherefore-art")
	sets(t, there, "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>", roomItem, keysItem,
		"<query xmlns='jabber:iq:roster'><item jid='romeo@away.example' name='Romeo'><group>Verona</group></item></query>")
	if err := there.Send("<presence type='subscribe' to='romeo@away.example'/>"); err != nil {
		t.Fatal(err)
	}
	addUser(t, old, "nurse", "by-my-count")
	nurse := logIn(t, old, "nurse@old.example", "by-my-count")
	if err := nurse.Send("<presence/>"); err != nil {
		t.Fatal(err)
	}
	befriend(t, old, "juliet@old.example", "nurse@old.example", store.SubFrom)
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	ask := admin.MoveBringRequest{Old: "juliet@old.example", OldPassword: "wherefore-art", Server: address, DirectTLS: true}

	for name, tt := range map[string]struct {
		change func(*admin.MoveBringRequest)
		code   admin.Code
		text   string
	}{
		"wrong password":     {func(r *admin.MoveBringRequest) { r.OldPassword = "wrong" }, admin.CodeFailed, "does not accept this password"},
		"no password":        {func(r *admin.MoveBringRequest) { r.OldPassword = "" }, admin.CodePassword, "missing"},
		"no domain":          {func(r *admin.MoveBringRequest) { r.Old, r.OldPassword = "juliet", "" }, admin.CodeInvalid, "has no domain"},
		"no address":         {func(r *admin.MoveBringRequest) { r.Old = "@@" }, admin.CodeInvalid, "no account's address"},
		"on this box":        {func(r *admin.MoveBringRequest) { r.Old = "juliet@home.example" }, admin.CodeInvalid, "is on this box"},
		"to another domain":  {func(r *admin.MoveBringRequest) { r.New = "juliet@x.example" }, admin.CodeNotFound, "x.example"},
		"nobody listens":     {func(r *admin.MoveBringRequest) { r.Server = "127.0.0.1:1" }, admin.CodeFailed, "no chat server answers"},
		"no server":          {func(r *admin.MoveBringRequest) { r.Server = "nonsense" }, admin.CodeInvalid, "host:port"},
		"another's identity": {func(r *admin.MoveBringRequest) { r.Old = "juliet@other.example" }, admin.CodeFailed, "is for another name"},
	} {
		t.Run(name, func(t *testing.T) {
			req := ask
			tt.change(&req)
			_, err := home.client().MoveBring(t.Context(), req)
			var known *admin.Error
			if !errors.As(err, &known) || known.Code != tt.code || !strings.Contains(known.Message, tt.text) {
				t.Errorf("%+v", err)
			}
		})
	}
	if _, err := home.client().UserGet(t.Context(), admin.UserGetRequest{User: "juliet"}); err == nil {
		t.Error("an account was made before the old server let us in")
	}

	look := ask
	look.DryRun = true
	if resp, err := home.client().MoveBring(t.Context(), look); err != nil || resp.Migration.Counts.Contacts != 2 {
		t.Errorf("%+v, %v", resp, err)
	}
	resp, err := home.client().MoveBring(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	got := over(t, home, "juliet@home.example")
	if got.State != admin.MigrationDone || got.Password == "" || got.Counts.Contacts != 2 || !got.Counts.VCard || got.Counts.Items != 1 || len(got.Lacks) > 0 || len(got.Losses) != 1 {
		t.Fatalf("%+v, %v, %+v", got, got.Error, resp)
	}
	here := logIn(t, home, "juliet@home.example", got.Password)
	if card := gets(t, here, readCard); !strings.Contains(card, "<FN>Juliet</FN>") {
		t.Error(card)
	}
	if room := gets(t, here, readRoom); !strings.Contains(room, "name='Room'") {
		t.Error(room)
	}
	if said := gets(t, there, readMove); !strings.Contains(said, "<new-jid>juliet@home.example</new-jid>") {
		t.Error(said)
	}
	mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{New: "juliet@home.example"})
	if err != nil || len(mv.Moves) != 1 || mv.Moves[0].State != "running" || mv.Moves[0].Announced.IsZero() || len(mv.Moves[0].Contacts) != 2 || mv.Moves[0].Contacts[0].State != "told" || mv.Moves[0].Contacts[1].Name != "Romeo" {
		t.Errorf("%+v, %v", mv, err)
	}
	// The nurse only sees the old address: that one tells her, once.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	told, err := nurse.Await(ctx, func(el *frame.Element) bool { return el.Name == "message" })
	if err != nil || !strings.Contains(string(told.Raw), "My address is juliet@home.example now.") || !strings.Contains(string(told.Raw), "from='juliet@old.example/") {
		t.Errorf("%+v, %v", told, err)
	}
	if strings.Contains(home.log.String(), "wherefore") || strings.Contains(old.log.String(), "wherefore") {
		t.Error("a password in the log")
	}
	// Again: it is here, and nothing is done twice.
	ask.OldPassword = ""
	if resp, err := home.client().MoveBring(t.Context(), ask); err != nil || resp.Migration.State != admin.MigrationDone || resp.Migration.Before.IsZero() || resp.Migration.Password != "" {
		t.Errorf("%+v, %v", resp, err)
	}
	holdsNo(t, home, "wherefore-art")
}

// holdsNo looks for a secret in all that the box has stored.
func holdsNo(t *testing.T, d *daemon, secret string) {
	t.Helper()
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(d.cfg.DataDir, StoreFile))
	if err != nil || strings.Contains(string(raw), secret) {
		t.Errorf("the old password is in the store, or %v", err)
	}
}

// An account that has something is not overwritten.
func TestBringOverContents(t *testing.T) {
	old, address, authority := elsewhere(t, "old.example")
	addUser(t, old, "juliet", "wherefore-art")
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	addUser(t, home, "juliet", "another-one")
	sets(t, logIn(t, home, "juliet@home.example", "another-one"), "<vCard xmlns='vcard-temp'><FN>Somebody</FN></vCard>")
	if _, err := home.client().MoveBring(t.Context(), admin.MoveBringRequest{Old: "juliet@old.example", OldPassword: "wherefore-art", Server: address, DirectTLS: true}); err != nil {
		var known *admin.Error
		if !errors.As(err, &known) || known.Code != admin.CodeExists {
			t.Fatal(err)
		}
	}
	got := over(t, home, "juliet@home.example")
	if got.State != admin.MigrationFailed || got.Error.Code != admin.CodeExists || !strings.Contains(got.Error.Message, "a card") {
		t.Errorf("%+v", got)
	}
	there := logIn(t, old, "juliet@old.example", "wherefore-art")
	if said := gets(t, there, readMove); strings.Contains(said, "new-jid") {
		t.Error("announced all the same: " + said)
	}
	if card := gets(t, logIn(t, home, "juliet@home.example", "another-one"), readCard); !strings.Contains(card, "Somebody") {
		t.Error(card)
	}
}

// Juliet leaves for another server, where the box is only a client.
func TestLeave(t *testing.T) {
	away, address, authority := elsewhere(t, "away.example")
	addUser(t, away, "julia", "wherefore-art")
	addUser(t, away, "romeo", "deny-thy-father")
	romeo := logIn(t, away, "romeo@away.example", "deny-thy-father")
	gets(t, romeo, "<query xmlns='jabber:iq:roster'/>")
	if err := romeo.Send("<presence/>"); err != nil {
		t.Fatal(err)
	}
	home := serve(t, t.TempDir(), 0, func(c *config.Config) { c.S2S.SystemRoot, c.S2S.Trust = false, []string{authority} })
	home.hears("READY=1")
	addUser(t, home, "juliet", "another-one")
	sets(t, logIn(t, home, "juliet@home.example", "another-one"), "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>", roomItem)
	befriend(t, home, "juliet@home.example", "romeo@away.example", store.SubBoth)
	befriend(t, home, "juliet@home.example", "nurse@away.example", store.SubFrom)
	ask := admin.MoveLeaveRequest{Account: "juliet", New: "julia@away.example", Password: "wherefore-art", Server: address, DirectTLS: true}
	for range 2 { // the second time changes nothing
		if _, err := home.client().MoveLeave(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		if got := over(t, home, "julia@away.example"); got.State != admin.MigrationDone || got.Counts.Contacts != got.Counts.Told {
			t.Fatalf("%+v, %v", got, got.Error)
		}
	}
	mv, err := home.client().MoveStatus(t.Context(), admin.MoveStatusRequest{New: "julia@away.example"})
	if err != nil || len(mv.Moves) != 1 || !mv.Moves[0].Outside || len(mv.Moves[0].Contacts) != 2 || mv.Moves[0].Contacts[0].State != "told" {
		t.Fatalf("%+v, %v", mv, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asked, err := romeo.Next(ctx)
	for err == nil && asked.Attr("type") != "subscribe" {
		asked, err = romeo.Next(ctx)
	}
	if err != nil || !strings.Contains(string(asked.Raw), "<old-jid>juliet@home.example</old-jid>") || !strings.Contains(string(asked.Raw), "My address is julia@away.example now. It was juliet@home.example.") {
		t.Errorf("%+v, %v", asked, err)
	}
	julia := logIn(t, away, "julia@away.example", "wherefore-art")
	if roster := gets(t, julia, "<query xmlns='jabber:iq:roster'/>"); !strings.Contains(roster, "ask='subscribe'") || strings.Count(roster, "approved='true'") != 2 {
		t.Error(roster)
	}
	if room := gets(t, julia, readRoom) + gets(t, julia, readCard); !strings.Contains(room, "name='Room'") || !strings.Contains(room, "Juliet") {
		t.Error(room)
	}
	if said := gets(t, logIn(t, home, "juliet@home.example", "another-one"), readMove); !strings.Contains(said, "julia@away.example") {
		t.Error(said)
	}
	// Without the password there it is only announced.
	addUser(t, home, "paris", "county-palatine")
	for again := range 2 {
		resp, err := home.client().MoveLeave(t.Context(), admin.MoveLeaveRequest{Account: "paris", New: "paris@away.example"})
		if err != nil || resp.Migration.State != admin.MigrationDone || resp.Migration.Before.IsZero() != (again == 0) {
			t.Errorf("%d: %+v, %v", again, resp, err)
		}
	}
	if _, err := home.client().MoveLeave(t.Context(), admin.MoveLeaveRequest{Account: "nobody", New: "paris@away.example"}); err == nil {
		t.Error("nobody left")
	}
	// What was taken back here may be left there, and is named.
	undone, err := home.client().MoveUndo(t.Context(), admin.MoveUndoRequest{New: "julia@away.example"})
	if err != nil || len(undone.Undone) != 1 || undone.Undone[0].Statement != "retracted" || !slices.Equal(undone.Undone[0].There, []string{"romeo@away.example"}) ||
		!slices.Equal(undone.Undone[0].Stopped, []string{"nurse@away.example"}) {
		t.Errorf("%+v, %v", undone, err)
	}
	holdsNo(t, home, "wherefore-art")
}

func befriend(t *testing.T, d *daemon, account, contact string, sub store.Subscription) {
	t.Helper()
	s := d.daemon.running()
	if err := s.box.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		store.Roster.Put(tx, store.Key(account, contact), store.RosterItem{Sub: sub, Name: contact, Version: 1})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
