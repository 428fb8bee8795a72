package reach

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clock is what a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2027, 5, 1, 12, 0, 0, 0, time.UTC)} }

func open(t *testing.T, dir string, c *clock, files map[string]Files, domains ...string) *Certificates {
	t.Helper()
	cs, err := Open(Config{Dir: dir, Domains: domains, Files: files, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// verify is what a client does that trusts the PEM text.
func verify(t *testing.T, trusted []byte, cert *tls.Certificate, name string, at time.Time) error {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(trusted) {
		t.Fatal("no authority")
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: at})
	return err
}

func TestFamilyAuthority(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	cs := open(t, dir, c, nil, "montague.example", "münchen.example")
	ca := cs.AuthorityPEM()
	for domain, name := range map[string]string{"montague.example": "montague.example", "münchen.example": "xn--mnchen-3ya.example", "MONTAGUE.example.": "montague.example"} {
		cert := cs.Certificate(domain)
		if err := verify(t, ca, cert, name, c.now); err != nil {
			t.Errorf("%s: %v", domain, err)
		}
		key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || key.Curve.Params().Name != "P-256" {
			t.Errorf("%s: the key is a %T", domain, cert.PrivateKey)
		}
	}
	for _, other := range []string{"", "verona.example", "sub.montague.example", "\xff"} {
		if cs.Certificate(other) != cs.Certificate("montague.example") {
			t.Errorf("%q does not get the main domain's certificate", other)
		}
	}
	again := open(t, dir, c, nil, "montague.example", "münchen.example")
	if string(again.AuthorityPEM()) != string(ca) || !again.Certificate("montague.example").Leaf.Equal(cs.Certificate("montague.example").Leaf) {
		t.Error("a restart makes other certificates")
	}
	for _, f := range []string{"authority.key", "montague.example.pem"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// Whoever gets hold of the authority's key can not pretend to be somebody else to the family's devices.
func TestAuthorityIsConstrained(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	cs := open(t, dir, c, nil, "montague.example")
	bank, _, err := cs.authority.issue("bank.example", c.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, cs.AuthorityPEM(), bank, "bank.example", c.now); err == nil {
		t.Error("the authority may vouch for anybody")
	}
}

func TestMoreDomains(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	before := open(t, dir, c, nil, "montague.example")
	after := open(t, dir, c, nil, "montague.example", "capulet.example")
	for name, want := range map[string]bool{"montague.example": true, "capulet.example": false} {
		if err := verify(t, before.AuthorityPEM(), after.Certificate(name), name, c.now); (err == nil) != want {
			t.Errorf("%s, to who trusts the authority as it was: %v", name, err)
		}
		if err := verify(t, after.AuthorityPEM(), after.Certificate(name), name, c.now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	fewer := open(t, dir, c, nil, "capulet.example")
	if string(fewer.AuthorityPEM()) != string(after.AuthorityPEM()) {
		t.Error("a domain less makes another authority")
	}
}

func TestRenewal(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	cs := open(t, dir, c, nil, "montague.example")
	first := cs.Certificate("montague.example")
	if domain, at := cs.Expiry(); domain != "montague.example" || !at.Equal(first.Leaf.NotAfter) {
		t.Errorf("%s expires at %s", domain, at)
	}
	if days := first.Leaf.NotAfter.Sub(first.Leaf.NotBefore).Hours() / 24; days > 825 {
		t.Errorf("valid for %f days", days)
	}
	c.now = first.Leaf.NotAfter.Add(-renewBefore - time.Hour)
	if cs.Certificate("montague.example") != first {
		t.Error("renewed too early")
	}
	c.now = c.now.Add(2 * time.Hour)
	second := cs.Certificate("montague.example")
	if second == first || !first.PrivateKey.(*ecdsa.PrivateKey).Equal(second.PrivateKey) {
		t.Error("not renewed, or with another key")
	}
	if err := verify(t, cs.AuthorityPEM(), second, "montague.example", first.Leaf.NotAfter.Add(24*time.Hour)); err != nil {
		t.Error(err)
	}
	if open(t, dir, c, nil, "montague.example").Certificate("").Leaf.NotAfter != second.Leaf.NotAfter {
		t.Error("the renewed certificate was not kept")
	}
}

// A box without a battery thinks it is 1970 until the network tells it otherwise.
func TestClockOfABoxWithoutBattery(t *testing.T) {
	dir, c := t.TempDir(), &clock{time.Date(1970, 1, 1, 0, 0, 10, 0, time.UTC)}
	cs := open(t, dir, c, nil, "montague.example")
	if err := verify(t, cs.AuthorityPEM(), cs.Certificate(""), "montague.example", newClock().now); err != nil {
		t.Error(err)
	}
}

func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"authority.pem gone":  func(dir string) error { return os.Remove(filepath.Join(dir, authorityCert)) },
		"authority.pem empty": func(dir string) error { return os.WriteFile(filepath.Join(dir, authorityCert), nil, 0o600) },
		"authority.key gone":  func(dir string) error { return os.Remove(filepath.Join(dir, authorityKey)) },
		"authority.key empty": func(dir string) error { return os.WriteFile(filepath.Join(dir, authorityKey), nil, 0o600) },
		"authority.key else's": func(dir string) error {
			return os.Rename(filepath.Join(dir, "other.key"), filepath.Join(dir, authorityKey))
		},
		"leaf gone":  func(dir string) error { return os.Remove(filepath.Join(dir, "montague.example.pem")) },
		"leaf empty": func(dir string) error { return os.WriteFile(filepath.Join(dir, "montague.example.pem"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), newClock()
			ca := open(t, dir, c, nil, "montague.example").AuthorityPEM()
			if _, err := makeKey(filepath.Join(dir, "other.key")); err != nil {
				t.Fatal(err)
			}
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			cs, err := Open(Config{Dir: dir, Domains: []string{"montague.example"}, Now: c.Now})
			switch {
			case strings.HasPrefix(name, "leaf"), name == "authority.pem gone": // can be made again from what is there
				if err != nil {
					t.Fatal(err)
				}
				if err := verify(t, cs.AuthorityPEM(), cs.Certificate(""), "montague.example", c.now); err != nil {
					t.Error(err)
				}
				if strings.HasPrefix(name, "leaf") && string(cs.AuthorityPEM()) != string(ca) {
					t.Error("another authority was made")
				}
			case err == nil || !strings.Contains(err.Error(), "authority"):
				t.Errorf("error: %v", err)
			}
		})
	}
}

// Own files are read again when they change; what can not be used leaves what is in use.
func TestOwnFiles(t *testing.T) {
	c := newClock()
	own := func(days int, name string) (chain, key []byte) {
		cs := open(t, t.TempDir(), &clock{c.now.Add(time.Duration(days) * 24 * time.Hour)}, nil, name)
		raw, err := os.ReadFile(filepath.Join(cs.config.Dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		return raw, raw
	}
	dir := t.TempDir()
	files := Files{filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")}
	put := func(chain, key []byte) {
		for path, b := range map[string][]byte{files.Chain: chain, files.Key: key} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, c.now, c.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(own(0, "montague.example"))
	cs := open(t, filepath.Join(dir, "tls"), c, map[string]Files{"montague.example": files}, "montague.example")
	first := cs.Certificate("montague.example")
	if cs.AuthorityPEM() != nil {
		t.Error("an authority was made that nobody needs")
	}
	put(own(10, "montague.example"))
	if cs.Certificate("montague.example") != first {
		t.Error("files are looked at on every connection")
	}
	c.now = c.now.Add(2 * time.Minute)
	put(own(20, "montague.example"))
	second := cs.Certificate("montague.example")
	if second == first {
		t.Error("a changed file was not read")
	}
	c.now = c.now.Add(time.Second)
	put(own(30, "montague.example"))
	if err := cs.Reload(); err != nil || cs.Certificate("montague.example") == second {
		t.Errorf("reloading: %v", err)
	}
	third := cs.Certificate("montague.example")
	for _, bad := range [][]byte{nil, []byte("nonsense")} {
		c.now = c.now.Add(time.Second)
		put(bad, bad)
		if err := cs.Reload(); err == nil || cs.Certificate("montague.example") != third {
			t.Errorf("reloading what can not be used: %v", err)
		}
	}
	c.now = c.now.Add(time.Second)
	put(own(0, "capulet.example"))
	if err := cs.Reload(); err == nil || cs.Certificate("montague.example") != third {
		t.Errorf("reloading the certificate of another domain: %v", err)
	}
	if err := os.Remove(files.Chain); err != nil {
		t.Fatal(err)
	}
	if err := cs.Reload(); err == nil || cs.Certificate("montague.example") != third {
		t.Errorf("reloading what is not there: %v", err)
	}
	if _, err := Open(Config{Dir: dir, Domains: []string{"montague.example"}, Files: map[string]Files{"montague.example": files}}); err == nil {
		t.Error("started without a certificate")
	}
}

func TestTLSConfig(t *testing.T) {
	c := newClock()
	cs := open(t, t.TempDir(), c, nil, "montague.example", "capulet.example")
	for sni, want := range map[string]string{"capulet.example": "capulet.example", "": "montague.example", "verona.example": "montague.example"} {
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- tls.Server(b, cs.TLSConfig()).Handshake() }()
		client := tls.Client(a, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := client.ConnectionState().PeerCertificates[0].VerifyHostname(want); err != nil {
			t.Errorf("%q: %v", sni, err)
		}
		_ = a.Close()
		<-done
	}
}

// A power cut may leave files, a key among them, that did not get their names.
func TestUnfinishedFilesAreRemoved(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	for _, name := range []string{".new-1234567", ".new-key", "montague.example.pem.old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".new-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, dir, c, nil, "montague.example")
	for name, there := range map[string]bool{".new-1234567": false, ".new-1": true, ".new-key": true, "montague.example.pem.old": true, "authority.key": true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}
