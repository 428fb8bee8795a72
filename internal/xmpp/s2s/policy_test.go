package s2s

import (
	"crypto/tls"
	"log/slog"
	"testing"

	"pibox/internal/xmpp"
)

func TestPolicy(t *testing.T) {
	own := func(d string) bool { return d == "here.example" }
	p, err := newPolicy(own, Options{
		Allow:           []string{"*.Family.example", "grandma.example", "odd.family.example"},
		Deny:            []string{"odd.family.example", "*.bad.family.example"},
		DialbackDomains: []string{"old.family.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]permit{
		"here.example":           {},
		"grandma.example":        {talk: true},
		"x.grandma.example":      {},
		"a.family.example":       {talk: true},
		"a.b.family.example":     {talk: true},
		"family.example":         {},
		"notfamily.example":      {},
		"old.family.example":     {talk: true, dialback: true},
		"odd.family.example":     {},
		"x.bad.family.example":   {},
		"bad.family.example":     {talk: true},
		"192.0.2.1":              {},
		"[2001:db8::1]":          {},
		"stranger.example":       {},
		"a.family.example.other": {},
	} {
		got := p.of(domain)
		if got.talk != want.talk || got.dialback != want.dialback || (got.why == "") != want.talk {
			t.Errorf("%s: %+v", domain, got)
		}
		if got.accepts(xmpp.ProofCertificate) != want.talk || got.accepts(xmpp.ProofDialback) != want.dialback || got.accepts(xmpp.ProofNone) {
			t.Errorf("%s accepts the wrong proofs", domain)
		}
	}
	open, err := newPolicy(own, Options{Dialback: true})
	if err != nil {
		t.Fatal(err)
	}
	if !open.of("stranger.example").dialback || open.of("here.example").talk {
		t.Error("without lists everybody is talked with but ourselves")
	}
}

func TestBadOptions(t *testing.T) {
	router := xmpp.NewRouter(nil, slog.New(slog.DiscardHandler), []string{"here.example"})
	for name, opt := range map[string]Options{
		"no TLS":                 {},
		"a pattern":              {TLS: &tls.Config{}, Deny: []string{"a.*.example"}},
		"a person as a pattern":  {TLS: &tls.Config{}, Allow: []string{"romeo@montague.example"}},
		"a route without a port": {TLS: &tls.Config{}, Routes: []Route{{Domain: "a.example", Address: "192.0.2.1"}}},
		"a route without a host": {TLS: &tls.Config{}, Routes: []Route{{Domain: "a.example", Address: ":5269"}}},
		"a route with port 0":    {TLS: &tls.Config{}, Routes: []Route{{Domain: "a.example", Address: "192.0.2.1:0"}}},
		"a route for no domain":  {TLS: &tls.Config{}, Routes: []Route{{Domain: "", Address: "192.0.2.1:5269"}}},
	} {
		if _, err := New(router, opt); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestDialbackKey(t *testing.T) {
	for _, c := range []struct{ secret, receiving, originating, id, want string }{
		{"s3cr3tf0rd14lb4ck", "xmpp.example.com", "example.org", "D60000229F", "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643"},     // XEP-0185 §3
		{"s3cr3tf0rd14lb4ck", "montague.example", "capulet.example", "D60000229F", "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3"}, // XEP-0220 §2.1.1
		{"d14lb4ck43v3r", "capulet.example", "montague.example", "417GAF25", "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d"},       // XEP-0220 §2.2.2
	} {
		if got := dialbackKey([]byte(c.secret), c.receiving, c.originating, c.id); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
