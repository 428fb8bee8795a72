package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/portable/client"
	"pibox/internal/testclient"
	"pibox/internal/xmpp"
)

// patience bounds every wait for something that must come.
const patience = 30 * time.Second

// home is our own server, in this process, as an honest one.
type home struct {
	t              *testing.T
	admin          *admin.Client
	address, plain string // with TLS from the first byte, and with STARTTLS
	roots          *x509.CertPool
}

func serve(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	short, err := os.MkdirTemp("", "box") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	cfg := config.Default()
	cfg.Domains, cfg.DataDir, cfg.Admin.Socket = []string{"old.example"}, dir, filepath.Join(short, "admin.sock")
	cfg.Health.LEDDir = filepath.Join(short, "no-leds")
	cfg.C2S.Listen, cfg.C2S.ListenTLS, cfg.S2S.Enabled = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}, false
	cfg.Store.Reserve, cfg.Login.Delay = 1, 0
	t.Setenv("NOTIFY_SOCKET", "")
	d := box.NewDaemon(cfg, "test", slog.New(slog.DiscardHandler), io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	h := &home{t: t, admin: admin.NewClient(cfg.Admin.Socket), roots: x509.NewCertPool()}
	until := time.Now().Add(patience)
	for h.address == "" || h.plain == "" {
		st, err := h.admin.Status(ctx, admin.StatusRequest{})
		if time.Now().After(until) {
			t.Fatal("the box does not serve", err)
		}
		for _, l := range st.Listeners {
			switch l.Service {
			case "c2s":
				h.plain = l.Address
			case "c2s-tls":
				h.address = l.Address
			}
		}
	}
	ca, err := h.admin.Authority(ctx, admin.AuthorityRequest{})
	if err != nil || !h.roots.AppendCertsFromPEM([]byte(ca.PEM)) {
		t.Fatal("no authority", err)
	}
	return h
}

// member makes an account, whose password is its name, and logs in to it.
func (h *home) member(name string) *testclient.Client {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if _, err := h.admin.UserAdd(ctx, admin.UserAddRequest{User: name, Password: name}); err != nil {
		h.t.Fatal(err)
	}
	return h.login(name)
}

func (h *home) login(name string) *testclient.Client {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	c, err := testclient.Dial(ctx, testclient.Config{Addr: h.address, Direct: true, Account: name + "@old.example", Password: name, TLS: &tls.Config{RootCAs: h.roots}})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(c.Cut)
	return c
}

func (h *home) set(c *testclient.Client, to string, payloads ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for _, p := range payloads {
		if err := c.Set(ctx, to, p); err != nil {
			h.t.Fatalf("%s: %v", p, err)
		}
	}
}

// say sends stanzas and waits until the server has handled them.
func (h *home) say(c *testclient.Client, stanzas ...string) {
	h.t.Helper()
	for _, s := range stanzas {
		if err := c.Send(s); err != nil {
			h.t.Fatal(err)
		}
	}
	h.set(c, c.Account(), "<vCard xmlns='vcard-temp'><FN>x</FN></vCard>") // behind a commit
}

func (h *home) config(name string) client.Config {
	return client.Config{
		Account: xmpp.MustJID(name + "@old.example"), Password: name, Address: h.address, Direct: true,
		Roots: func() *x509.CertPool { return h.roots }, Limits: client.Limits{Page: 3, Settle: 50 * time.Millisecond, Answer: patience},
	}
}

func publish(node, id, payload string) string {
	return "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='" + node + "'><item id='" + id + "'>" + payload + "</item></publish></pubsub>"
}

// furnish fills juliet's account.
func (h *home) furnish() {
	juliet, romeo, paris := h.member("juliet"), h.member("romeo"), h.member("paris")
	h.set(juliet, "", "<query xmlns='jabber:iq:roster'><item jid='romeo@old.example' name='Romeo &amp; &lt;love&gt;'><group>Friends</group><group>Verona</group></item></query>",
		"<query xmlns='jabber:iq:roster'><item jid='nurse@elsewhere.example' name='Nurse'/></query>",
		"<query xmlns='jabber:iq:private'><storage xmlns='storage:rosternotes'><note jid='romeo@old.example'>balcony</note></storage></query>",
		publish("urn:xmpp:bookmarks:1", "room@muc.example", "<conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><nick>J</nick></conference>"),
		publish("urn:xmpp:avatar:data", "abc", "<data xmlns='urn:xmpp:avatar:data'>AAAA</data>"),
		publish("eu.siacs.conversations.axolotl.devicelist", "current", "<list xmlns='eu.siacs.conversations.axolotl'/>"),
		publish("urn:xmpp:omemo:2:devices", "current", "<devices xmlns='urn:xmpp:omemo:2'/>"),
		"<block xmlns='urn:xmpp:blocking'><item jid='tybalt@old.example'/><item jid='evil.example'/></block>",
		"<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never><jid>paris@old.example</jid></never></prefs>")
	h.say(juliet, "<presence to='romeo@old.example' type='subscribe'/>", "<presence to='nurse@elsewhere.example' type='subscribed'/>")
	h.say(romeo, "<presence to='juliet@old.example' type='subscribed'/>")
	h.say(paris, "<presence to='juliet@old.example' type='subscribe'><status>Marry me</status></presence>")
	for i := range 10 {
		h.say(romeo, fmt.Sprintf("<message to='juliet@old.example' type='chat' id='m%d'><body>%d &lt;3</body></message>", i, i))
	}
	h.set(juliet, "", "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN></vCard>")
	juliet.Cut()
}

// Everything in an account of our own server comes, and what has to stay stays.
func TestBring(t *testing.T) {
	h := serve(t)
	h.furnish()
	for name, change := range map[string]func(*client.Config){
		"direct TLS": func(*client.Config) {},
		"STARTTLS":   func(c *client.Config) { c.Address, c.Direct = h.plain, false },
	} {
		t.Run(name, func(t *testing.T) {
			c, n := h.config("juliet"), &notebook{}
			change(&c)
			counts, err := client.Bring(t.Context(), c, n, client.Options{})
			if err != nil {
				t.Fatal(err, n.text())
			}
			for _, want := range []string{
				"user juliet@old.example\n", "\nend",
				`roster romeo@old.example "Romeo & <love>" [Friends Verona] to ask=false approved=false`,
				`roster nurse@elsewhere.example "Nurse" [] none ask=false approved=true`,
				"vcard <vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN></vCard>",
				"private <storage xmlns='storage:rosternotes'><note jid='romeo@old.example'>balcony</note></storage>",
				"node urn:xmpp:bookmarks:1 access=[", "item urn:xmpp:bookmarks:1 room@muc.example <conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><nick>J</nick></conference>",
				"item urn:xmpp:avatar:data abc <data xmlns='urn:xmpp:avatar:data'>AAAA</data>",
				"blocked evil.example", "blocked tybalt@old.example",
				"prefs <prefs xmlns='urn:xmpp:mam:2' default='always'>", "Marry me", "loss keys of OMEMO",
			} {
				if !strings.Contains(n.text(), want) {
					t.Errorf("%q is missing in\n%s", want, n.text())
				}
			}
			for _, no := range []string{"axolotl", "omemo:2", "urn:xmpp:moved", "romeo@old.example/"} {
				if strings.Contains(strings.Join(append(n.with("item"), n.with("node")...), "\n"), no) {
					t.Errorf("%q came along", no)
				}
			}
			archived := n.with("archived")
			if len(archived) != 10 || !slices.IsSortedFunc(archived, func(a, b string) int {
				return strings.Compare(a[strings.Index(a, "<body>"):], b[strings.Index(b, "<body>"):])
			}) {
				t.Errorf("archive:\n%s", strings.Join(archived, "\n"))
			}
			if waiting := n.with("offline"); len(waiting) != 10 {
				t.Errorf("%d messages wait", len(waiting))
			}
			if counts.Contacts != 2 || counts.Archived != 10 || counts.Waiting != 10 || counts.Requests != 1 || counts.Blocked != 2 || counts.Private != 1 || !counts.VCard {
				t.Errorf("counted %+v", counts)
			}
		})
	}
}

// What could go wrong at logging in is told in words, with what to do.
func TestLogin(t *testing.T) {
	h := serve(t)
	h.member("juliet")
	for name, tt := range map[string]struct {
		change func(*client.Config)
		want   client.Kind
	}{
		"right":              {func(*client.Config) {}, ""},
		"wrong password":     {func(c *client.Config) { c.Password = "wrong" }, client.WrongPassword},
		"unknown account":    {func(c *client.Config) { c.Account = xmpp.MustJID("nobody@old.example") }, client.WrongPassword},
		"unknown authority":  {func(c *client.Config) { c.Roots = x509.NewCertPool }, client.Untrusted},
		"another domain":     {func(c *client.Config) { c.Account = xmpp.MustJID("juliet@other.example") }, client.Untrusted},
		"nobody listens":     {func(c *client.Config) { c.Address = "127.0.0.1:1" }, client.Refused},
		"TLS where none is":  {func(c *client.Config) { c.Address = h.plain }, client.Broken},
		"none where TLS is":  {func(c *client.Config) { c.Direct = false }, client.Lost},
		"empty password":     {func(c *client.Config) { c.Password = "" }, client.WrongPassword},
		"password with \x00": {func(c *client.Config) { c.Password = "jul\x00iet" }, client.WrongPassword},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.config("juliet")
			tt.change(&c)
			s, err := client.Dial(t.Context(), c)
			if s != nil {
				defer func() { _ = s.Close() }()
			}
			var e *client.Error
			if errors.As(err, &e); tt.want == "" && err != nil || tt.want != "" && (e == nil || e.Kind != tt.want) {
				t.Fatalf("%v, expected %q", err, tt.want)
			}
			if e != nil && (e.Next() == "" || strings.Contains(e.Error(), "%!") || !strings.Contains(e.Error(), c.Account.Domain)) {
				t.Errorf("%q: %q", e.Error(), e.Next())
			}
		})
	}
}

// The statement is published, read back, replaced and taken back.
func TestStatement(t *testing.T) {
	h := serve(t)
	h.member("juliet")
	s, err := client.Dial(t.Context(), h.config("juliet"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, to := range []string{"juliet@new.example", "juliet@new.example", "juliet@newer.example"} {
		st, err := s.Publish(ctx, xmpp.MustJID(to), nil)
		if err != nil || st.Access != "presence" || len(st.Lacks) > 0 {
			t.Errorf("%+v, %v", st, err)
		}
		if is, there, err := s.Published(ctx); err != nil || !there || is.String() != to {
			t.Errorf("%v, %v, %v", is, there, err)
		}
	}
	for range 2 {
		if err := s.Retract(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, there, err := s.Published(ctx); there || err != nil {
		t.Error(there, err)
	}
	if _, err := s.Publish(ctx, xmpp.MustJID("juliet@old.example"), nil); err == nil {
		t.Error("moved to itself")
	}
}
