package sasl

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

var testSecret = []byte("0123456789abcdef0123456789abcdef")

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func unb64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		t.Fatalf("not base64: %q", s)
	}
	return string(b)
}

// A family of one: juliet, whose credentials have few iterations to keep the tests quick.
func testConfig(t testing.TB, bindings ...Binding) Config {
	t.Helper()
	var creds Credentials
	for _, name := range Mechanisms(false) {
		m, _ := mechanismByName(name)
		keys, err := deriveKeys(m, "r0m30myr0m30", []byte("saltsaltsaltsalt"), 16)
		if err != nil {
			t.Fatal(err)
		}
		*m.keys(&creds) = keys
	}
	return Config{
		Lookup: func(username string) (Account, error) {
			name := strings.ToLower(username)
			return Account{Name: name, Known: name == "juliet", Credentials: creds}, nil
		},
		SameAccount: func(authzid, account string) bool { return authzid == account+"@example.com" },
		Bindings:    bindings,
		Secret:      testSecret,
		Rand:        rand.Reader,
	}
}

func mustServer(t testing.TB, name string, c Config) *Server {
	t.Helper()
	s, err := NewServer(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantFailure(t *testing.T, err error, condition Condition) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got error %v, want a Failure %s", err, condition)
	}
	if f.Condition != condition {
		t.Fatalf("got %s (%s), want %s", f.Condition, f.Detail, condition)
	}
	return f
}

// A client is SCRAM's other side, written from RFC 5802 §3 for the tests, with every field open to tampering.
type client struct {
	mechanism string
	header    string // gs2-header
	data      string // channel binding data
	bare      string
	password  string

	extension string            // goes between r= and p=
	tamper    func(*finalParts) // before the proof is made
	rewrite   func(string) string
}

type finalParts struct{ binding, nonce string }

// final makes client-final-message, and the server-final-message it expects.
func (c client) final(t testing.TB, serverFirst string) (message, want string) {
	t.Helper()
	m, ok := mechanismByName(c.mechanism)
	if !ok {
		t.Fatalf("no mechanism %s", c.mechanism)
	}
	var nonce, salt string
	iterations := 0
	for _, f := range strings.Split(serverFirst, ",") {
		switch f[:2] {
		case "r=":
			nonce = f[2:]
		case "s=":
			salt = unb64(t, f[2:])
		case "i=":
			for _, d := range f[2:] {
				iterations = iterations*10 + int(d-'0')
			}
		}
	}
	keys, err := deriveKeys(m, c.password, []byte(salt), iterations)
	if err != nil {
		t.Fatal(err)
	}
	parts := finalParts{b64(c.header + c.data), nonce}
	if c.tamper != nil {
		c.tamper(&parts)
	}
	withoutProof := "c=" + parts.binding + ",r=" + parts.nonce + c.extension
	authMessage := c.bare + "," + serverFirst + "," + withoutProof
	proof := c.clientKey(t, m, salt, iterations)
	for i, b := range m.hmac(keys.StoredKey, authMessage) {
		proof[i] ^= b
	}
	message = withoutProof + ",p=" + b64(string(proof))
	if c.rewrite != nil {
		message = c.rewrite(message)
	}
	return message, "v=" + b64(string(m.hmac(keys.ServerKey, authMessage)))
}

func (c client) clientKey(t testing.TB, m mechanism, salt string, iterations int) []byte {
	t.Helper()
	salted, err := pbkdf2.Key(m.hash, c.password, []byte(salt), iterations, m.size)
	if err != nil {
		t.Fatal(err)
	}
	return m.hmac(salted, "Client Key")
}

// run plays the exchange to its end and gives the server's last error.
func (c client) run(t testing.TB, s *Server) error {
	t.Helper()
	reply, err := s.Next(b64(c.header + c.bare))
	if err != nil {
		return err
	}
	message, want := c.final(t, unb64(t, reply.Text))
	reply, err = s.Next(b64(message))
	if err != nil {
		return err
	}
	if !reply.Done {
		t.Fatal("no error and not done")
	}
	if got := unb64(t, reply.Text); got != want {
		t.Fatalf("server signature %q, want %q", got, want)
	}
	return nil
}

// RFC 5802 §5 and RFC 7677 §3, byte for byte.
func TestRFCVectors(t *testing.T) {
	for _, tc := range []struct {
		mechanism, password, salt, serverNonce             string
		iterations                                         int
		clientFirst, serverFirst, clientFinal, serverFinal string
	}{
		{
			mechanism: ScramSHA1, password: "pencil", salt: "QSXCR+Q6sek8bf92", iterations: 4096,
			serverNonce: "3rfcNHYJY1ZVvWVs7j",
			clientFirst: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			serverFirst: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			clientFinal: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			serverFinal: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			mechanism: ScramSHA256, password: "pencil", salt: "W22ZaJ0SNY7soEsUEjb6gQ==", iterations: 4096,
			serverNonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
			clientFirst: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			serverFirst: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			clientFinal: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			serverFinal: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		t.Run(tc.mechanism, func(t *testing.T) {
			m, _ := mechanismByName(tc.mechanism)
			keys, err := deriveKeys(m, tc.password, []byte(unb64(t, tc.salt)), tc.iterations)
			if err != nil {
				t.Fatal(err)
			}
			config := testConfig(t)
			config.Lookup = func(username string) (Account, error) {
				var c Credentials
				*m.keys(&c) = keys
				return Account{Name: username, Known: true, Credentials: c}, nil
			}
			s := mustServer(t, tc.mechanism, config)
			s.nonce = tc.serverNonce
			reply, err := s.Next(b64(tc.clientFirst))
			if err != nil {
				t.Fatal(err)
			}
			if got := unb64(t, reply.Text); got != tc.serverFirst {
				t.Fatalf("server-first %q\nwant         %q", got, tc.serverFirst)
			}
			if s.Account() != "" {
				t.Error("an account before the proof")
			}
			reply, err = s.Next(b64(tc.clientFinal))
			if err != nil {
				t.Fatal(err)
			}
			if got := unb64(t, reply.Text); got != tc.serverFinal || !reply.Done {
				t.Fatalf("server-final %q done %v, want %q", got, reply.Done, tc.serverFinal)
			}
			if s.Account() != "user" {
				t.Errorf("account %q", s.Account())
			}
		})
	}
}

func exporter() Binding { return Binding{TLSExporter, []byte("exported keying material, 32 b..")} }

func julietClient(mechanism string) client {
	c := client{mechanism: mechanism, header: "n,,", bare: "n=juliet,r=clientnonce", password: "r0m30myr0m30"}
	if strings.HasSuffix(mechanism, plusSuffix) {
		c.header, c.data = "p=tls-exporter,,", string(exporter().Data)
	}
	return c
}

func TestLogin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*client)
		want   Condition // empty: logs in
		guess  bool
	}{
		{name: "right password"},
		{name: "name in other case", change: func(c *client) { c.bare = "n=JULIET,r=x" }},
		{name: "own authorization identity", change: func(c *client) {
			c.header = strings.Replace(c.header, ",,", ",a=juliet@example.com,", 1)
		}},
		{name: "optional extensions", change: func(c *client) { c.bare += ",x=1,y=a=b"; c.extension = ",z=2" }},
		{name: "wrong password", change: func(c *client) { c.password = "mercutio" }, want: NotAuthorized, guess: true},
		{name: "unknown user", change: func(c *client) { c.bare = "n=tybalt,r=x" }, want: NotAuthorized, guess: true},
		{name: "other authorization identity", change: func(c *client) {
			c.header = strings.Replace(c.header, ",,", ",a=romeo@example.com,", 1)
		}, want: InvalidAuthzid},
		{name: "mandatory extension first", change: func(c *client) { c.bare = "m=x,n=juliet,r=x" }, want: MalformedRequest},
		{name: "mandatory extension last", change: func(c *client) { c.bare += ",m=x" }, want: MalformedRequest},
		{name: "mandatory extension in the second message", change: func(c *client) { c.extension = ",m=x" }, want: MalformedRequest},
		{name: "nonce of another exchange", change: func(c *client) {
			c.tamper = func(p *finalParts) { p.nonce = "clientnonceAAAAAAAAAAAAAAAAAAAAAAAA" }
		}, want: NotAuthorized},
		{name: "client's half of the nonce only", change: func(c *client) {
			c.tamper = func(p *finalParts) { p.nonce = "clientnonce" }
		}, want: NotAuthorized},
		{name: "nonce with a tail", change: func(c *client) {
			c.tamper = func(p *finalParts) { p.nonce += "x" }
		}, want: NotAuthorized},
		{name: "header that was changed on the way", change: func(c *client) {
			c.tamper = func(p *finalParts) { p.binding = b64("y,,") }
		}, want: NotAuthorized},
		{name: "proof of another hash's length", change: func(c *client) {
			c.rewrite = func(m string) string { return m[:strings.LastIndex(m, ",p=")] + ",p=" + b64("short") }
		}, want: MalformedRequest},
		{name: "proof of the right length, wrong", change: func(c *client) {
			c.rewrite = func(m string) string {
				i := strings.LastIndex(m, ",p=") + 3
				if m[i] == 'A' {
					return m[:i] + "B" + m[i+1:]
				}
				return m[:i] + "A" + m[i+1:]
			}
		}, want: NotAuthorized, guess: true},
		{name: "no proof", change: func(c *client) {
			c.rewrite = func(m string) string { return m[:strings.LastIndex(m, ",p=")] }
		}, want: MalformedRequest},
		{name: "something behind the proof", change: func(c *client) {
			c.rewrite = func(m string) string { return m + ",x=1" }
		}, want: MalformedRequest},
	} {
		for _, mechanism := range Mechanisms(true) {
			t.Run(tc.name+"/"+mechanism, func(t *testing.T) {
				var offered []Binding
				if strings.HasSuffix(mechanism, plusSuffix) {
					offered = append(offered, exporter())
				}
				s := mustServer(t, mechanism, testConfig(t, offered...))
				c := julietClient(mechanism)
				if tc.change != nil {
					tc.change(&c)
				}
				err := c.run(t, s)
				if tc.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					if s.Account() != "juliet" {
						t.Fatalf("account %q", s.Account())
					}
					return
				}
				if f := wantFailure(t, err, tc.want); f.Guess != tc.guess {
					t.Errorf("Guess is %v", f.Guess)
				}
				if s.Account() != "" {
					t.Errorf("account %q after a failure", s.Account())
				}
			})
		}
	}
}

func TestChannelBinding(t *testing.T) {
	endPoint := Binding{TLSServerEndPoint, []byte("certificate hash")}
	for _, tc := range []struct {
		name      string
		mechanism string
		offered   []Binding
		header    string
		data      string
		want      Condition
	}{
		{name: "n though -PLUS was offered", mechanism: ScramSHA256, offered: []Binding{exporter()}, header: "n,,"},
		{name: "y where -PLUS was not offered", mechanism: ScramSHA256, header: "y,,"},
		{name: "y though -PLUS was offered", mechanism: ScramSHA256, offered: []Binding{exporter()}, header: "y,,", want: NotAuthorized},
		{name: "n with -PLUS", mechanism: ScramSHA256Plus, offered: []Binding{exporter()}, header: "n,,"}, // slixmpp
		{
			name: "data under n with -PLUS", mechanism: ScramSHA256Plus, offered: []Binding{exporter()},
			header: "n,,", data: string(exporter().Data), want: NotAuthorized,
		},
		{name: "y with -PLUS", mechanism: ScramSHA256Plus, offered: []Binding{exporter()}, header: "y,,", want: NotAuthorized},
		{name: "p without -PLUS", mechanism: ScramSHA256, offered: []Binding{exporter()}, header: "p=tls-exporter,,", want: MalformedRequest},
		{name: "type not offered", mechanism: ScramSHA256Plus, offered: []Binding{exporter()}, header: "p=tls-unique,,", want: MalformedRequest},
		{
			name: "second type", mechanism: ScramSHA256Plus, offered: []Binding{exporter(), endPoint},
			header: "p=tls-server-end-point,,", data: "certificate hash",
		},
		{
			name: "data of the other type", mechanism: ScramSHA256Plus, offered: []Binding{exporter(), endPoint},
			header: "p=tls-exporter,,", data: "certificate hash", want: NotAuthorized,
		},
		{
			name: "another connection's data", mechanism: ScramSHA1Plus, offered: []Binding{exporter()},
			header: "p=tls-exporter,,", data: "EXPORTED keying material, 32 b..", want: NotAuthorized,
		},
		{name: "no data", mechanism: ScramSHA1Plus, offered: []Binding{exporter()}, header: "p=tls-exporter,,", want: NotAuthorized},
		{
			name: "offered without data", mechanism: ScramSHA1Plus, offered: []Binding{{Type: TLSExporter}},
			header: "p=tls-exporter,,", want: MalformedRequest,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := mustServer(t, tc.mechanism, testConfig(t, tc.offered...))
			c := julietClient(tc.mechanism)
			c.header, c.data = tc.header, tc.data
			err := c.run(t, s)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if f := wantFailure(t, err, tc.want); f.Guess {
				t.Error("counted as a guess")
			}
		})
	}
}

func TestMechanismNotOffered(t *testing.T) {
	for _, name := range []string{"", "PLAIN", "EXTERNAL", "SCRAM-SHA-512", "scram-sha-1", "SCRAM-SHA-1-PLUS-PLUS", "-PLUS", ScramSHA1Plus, ScramSHA256Plus} {
		_, err := NewServer(name, testConfig(t))
		wantFailure(t, err, InvalidMechanism)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no lookup":      func(c *Config) { c.Lookup = nil },
		"short secret":   func(c *Config) { c.Secret = c.Secret[:MinSecret-1] },
		"no random left": func(c *Config) { c.Rand = bytes.NewReader(nil) },
	} {
		config := testConfig(t)
		change(&config)
		_, err := NewServer(ScramSHA1, config)
		var f *Failure
		if err == nil || errors.As(err, &f) {
			t.Errorf("%s: got %v, want an internal error", name, err)
		}
	}
}

func TestFirstMessageLater(t *testing.T) {
	s := mustServer(t, ScramSHA256, testConfig(t))
	reply, err := s.Next("")
	if err != nil || reply.Text != "" || reply.Done {
		t.Fatalf("got %+v, %v, want an empty challenge", reply, err)
	}
	if err := julietClient(ScramSHA256).run(t, s); err != nil {
		t.Fatal(err)
	}
}

func TestOrder(t *testing.T) {
	first := b64("n,,n=juliet,r=x")
	for _, tc := range []struct {
		name  string
		texts []string
		want  Condition
	}{
		{"nothing twice", []string{"", ""}, MalformedRequest},
		{"initial response of no length", []string{"="}, MalformedRequest},
		{"first message twice", []string{first, first}, MalformedRequest},
		{"final message first", []string{b64("c=biws,r=x,p=AAAA")}, MalformedRequest},
		{"nothing for the final message", []string{first, ""}, MalformedRequest},
		{"not base64", []string{"%%%"}, IncorrectEncoding},
		{"line break", []string{first[:4] + "\n" + first[4:]}, IncorrectEncoding},
		{"space", []string{" " + first}, IncorrectEncoding},
		{"no padding", []string{strings.TrimRight(b64("n,,n=juliet,r=xy"), "=")}, IncorrectEncoding},
		{"bits behind the end", []string{"QR=="}, IncorrectEncoding},
		{"final message not base64", []string{first, "!"}, IncorrectEncoding},
		{"too long", []string{b64("n,,n=juliet,r=" + strings.Repeat("x", maxMessage))}, MalformedRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := mustServer(t, ScramSHA256, testConfig(t))
			var err error
			for i, text := range tc.texts {
				if _, err = s.Next(text); err != nil && i != len(tc.texts)-1 {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			wantFailure(t, err, tc.want)
			_, err = s.Next(first)
			wantFailure(t, err, MalformedRequest) // over is over
		})
	}
}

// A recorded exchange, sent again to a new Server and to the same one.
func TestReplay(t *testing.T) {
	config := testConfig(t)
	s := mustServer(t, ScramSHA256, config)
	c := julietClient(ScramSHA256)
	first := b64(c.header + c.bare)
	reply, err := s.Next(first)
	if err != nil {
		t.Fatal(err)
	}
	message, _ := c.final(t, unb64(t, reply.Text))
	if _, err := s.Next(b64(message)); err != nil {
		t.Fatal(err)
	}
	_, err = s.Next(b64(message))
	wantFailure(t, err, MalformedRequest)
	if s.Account() != "" {
		t.Error("still an account after a step too many")
	}
	again := mustServer(t, ScramSHA256, config)
	if _, err := again.Next(first); err != nil {
		t.Fatal(err)
	}
	_, err = again.Next(b64(message))
	wantFailure(t, err, NotAuthorized)
}

func TestLookupFails(t *testing.T) {
	config := testConfig(t)
	config.Lookup = func(string) (Account, error) { return Account{}, errors.New("bbolt: bad page") }
	_, err := mustServer(t, ScramSHA1, config).Next(b64("n,,n=juliet,r=x"))
	f := wantFailure(t, err, TemporaryAuthFailure)
	if strings.Contains(f.Text, "bbolt") || !strings.Contains(f.Detail, "bbolt") {
		t.Errorf("text %q, detail %q", f.Text, f.Detail)
	}
	config.Lookup = func(string) (Account, error) { return Account{}, &Failure{Condition: AccountDisabled} }
	_, err = mustServer(t, ScramSHA1, config).Next(b64("n,,n=juliet,r=x"))
	wantFailure(t, err, AccountDisabled)
}

func TestAuthzidWithoutSameAccount(t *testing.T) {
	config := testConfig(t)
	config.SameAccount = nil
	_, err := mustServer(t, ScramSHA1, config).Next(b64("n,a=juliet,n=juliet,r=x"))
	wantFailure(t, err, InvalidAuthzid)
}
