package sasl

import (
	"errors"
	"strings"
	"testing"
)

// serverFirst gives the fields of server-first-message that a stranger can compare.
func serverFirst(t *testing.T, mechanism, username string, config Config) (salt, iterations string, nonce int) {
	t.Helper()
	s := mustServer(t, mechanism, config)
	reply, err := s.Next(b64("n,,n=" + username + ",r=x"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(unb64(t, reply.Text), ",")
	return fields[1], fields[2], len(fields[0])
}

// newAccount is juliet as NewCredentials makes her.
func newAccount(t *testing.T) Config {
	t.Helper()
	config := testConfig(t)
	creds, err := NewCredentials("r0m30myr0m30", config.Rand)
	if err != nil {
		t.Fatal(err)
	}
	config.Lookup = func(username string) (Account, error) {
		name := strings.ToLower(username)
		return Account{Name: name, Known: name == "juliet", Credentials: creds}, nil
	}
	return config
}

func TestUnknownUserLooksKnown(t *testing.T) {
	config := newAccount(t)
	for _, mechanism := range Mechanisms(false) {
		salt, iterations, nonce := serverFirst(t, mechanism, "juliet", config)
		fake, fakeIterations, fakeNonce := serverFirst(t, mechanism, "tybalt", config)
		if len(salt) != len(fake) || iterations != fakeIterations || nonce != fakeNonce {
			t.Errorf("%s: known %s %s %d, unknown %s %s %d", mechanism, salt, iterations, nonce, fake, fakeIterations, fakeNonce)
		}
		if again, _, _ := serverFirst(t, mechanism, "Tybalt", config); again != fake {
			t.Errorf("%s: the salt of an unknown user changes: %s, %s", mechanism, fake, again)
		}
		if other, _, _ := serverFirst(t, mechanism, "mercutio", config); other == fake {
			t.Errorf("%s: two unknown users have one salt", mechanism)
		}
		otherServer := config
		otherServer.Secret = []byte("another server's secret")
		if other, _, _ := serverFirst(t, mechanism, "tybalt", otherServer); other == fake {
			t.Errorf("%s: the salt does not depend on the secret", mechanism)
		}
	}
	sha1, _, _ := serverFirst(t, ScramSHA1, "tybalt", config)
	sha256, _, _ := serverFirst(t, ScramSHA256, "tybalt", config)
	if sha1 == sha256 {
		t.Error("one salt for both hashes: real accounts have two")
	}
}

// Everything the peer sees of a refusal is the same, whatever the cause, and so is the work: allocations stand for it here,
// being exact.
func TestUnknownUserIsRefusedAlike(t *testing.T) {
	for _, mechanism := range Mechanisms(false) {
		attempt := func(config Config, username string) *Failure {
			c := julietClient(mechanism)
			c.bare, c.password = "n="+username+",r=x", "wrong"
			var f *Failure
			if !errors.As(c.run(t, mustServer(t, mechanism, config)), &f) {
				t.Fatal("no Failure")
			}
			return f
		}
		known, unknown := attempt(newAccount(t), "juliet"), attempt(newAccount(t), "tybalt")
		if known.Condition != unknown.Condition || known.Text != unknown.Text || known.Guess != unknown.Guess {
			t.Errorf("known %+v, unknown %+v", known, unknown)
		}
		if known.Detail == unknown.Detail {
			t.Error("the log does not tell them apart")
		}
		if a, b := refusalAllocs(t, mechanism, "juliet"), refusalAllocs(t, mechanism, "tybalt"); a != b {
			t.Errorf("%s: %v allocations for a known user, %v for an unknown", mechanism, a, b)
		}
	}
}

func refusalAllocs(t *testing.T, mechanism, username string) float64 {
	t.Helper()
	config := newAccount(t)
	config.Rand = zeros{}
	c := julietClient(mechanism)
	c.bare, c.password = "n="+username+",r=x", "wrong"
	reply, err := mustServer(t, mechanism, config).Next(b64(c.header + c.bare))
	if err != nil {
		t.Fatal(err)
	}
	message, _ := c.final(t, unb64(t, reply.Text))
	first, final := b64(c.header+c.bare), b64(message)
	return testing.AllocsPerRun(50, func() {
		s := mustServer(t, mechanism, config)
		_, _ = s.Next(first)
		if _, err := s.Next(final); err == nil {
			t.Error("logged in")
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// An account that was taken over with SHA-1 keys only is, for SHA-256, like one that does not exist.
func TestAccountWithoutTheseKeys(t *testing.T) {
	config := testConfig(t)
	lookup := config.Lookup
	config.Lookup = func(username string) (Account, error) {
		a, err := lookup(username)
		a.Credentials.SHA256 = Keys{}
		return a, err
	}
	f := wantFailure(t, julietClient(ScramSHA256).run(t, mustServer(t, ScramSHA256, config)), NotAuthorized)
	if !f.Guess {
		t.Error("not counted as a guess")
	}
	if err := julietClient(ScramSHA1).run(t, mustServer(t, ScramSHA1, config)); err != nil {
		t.Error(err)
	}
}

// The decoy's keys must not open the account either, even to one who could make a proof for them.
func TestDecoyIsNoWayIn(t *testing.T) {
	m, _ := mechanismByName(ScramSHA256)
	config := testConfig(t)
	keys := decoy(m, testSecret, "tybalt")
	derived, err := deriveKeys(m, "r0m30myr0m30", keys.Salt, keys.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	config.Lookup = func(string) (Account, error) {
		return Account{Name: "tybalt", Known: false, Credentials: Credentials{SHA256: derived}}, nil
	}
	s := mustServer(t, ScramSHA256, config)
	s.nonce = "n"
	reply, err := s.Next(b64("n,,n=tybalt,r=clientnonce"))
	if err != nil {
		t.Fatal(err)
	}
	s.keys = derived // as if StoredKey had been hit upon
	c := julietClient(ScramSHA256)
	c.bare = "n=tybalt,r=clientnonce"
	message, _ := c.final(t, unb64(t, reply.Text))
	_, err = s.Next(b64(message))
	wantFailure(t, err, NotAuthorized)
}
