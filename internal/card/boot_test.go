package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const family = `family = "Miller"
domain = "miller.example"
time_zone = "Europe/Berlin"

[administrator]
name = "mum"
password = "correct horse"

[wifi]
ssid = "Haus"
password = "battery staple"
country = "DE"

[log]
level = "warn"
`

// A card without a file, and one with the file that lies on a new card.
func TestBootWithoutSettings(t *testing.T) {
	for _, laid := range []bool{false, true} {
		b := newBoard(t)
		if laid {
			if err := Lay(b.FAT); err != nil {
				t.Fatal(err)
			}
		}
		if facts := b.restart(); len(facts) > 0 {
			t.Errorf("%s", texts(facts))
		}
		if b.hostname != "pibox" || b.orders() != (Orders{Administrator: "admin"}) || isThere(b.configPath()) || isThere(b.supplicantPath()) || b.writable > 0 {
			t.Errorf("%+v", b)
		}
	}
}

func TestBoot(t *testing.T) {
	for name, text := range map[string]string{
		"pibox.toml": family, "PIBOX.TOML": "\ufeff" + strings.ReplaceAll(family, "\n", "\r\n"), "pibox.toml.txt": strings.ReplaceAll(family, "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard(t)
			b.onFAT(name, text)
			for round := range 3 { // later ones find nothing new
				if facts := b.restart(); len(facts) > 0 {
					t.Errorf("%s", texts(facts))
				}
				if o := b.orders(); o != (Orders{Administrator: "mum", Password: "correct horse"}) {
					t.Errorf("%+v", o)
				}
				got := b.fat(name)
				if len(got) != len(text) || strings.Contains(got, "horse") || strings.Contains(got, "staple") || !strings.Contains(got, "Miller") {
					t.Errorf("on the card stands\n%s", got)
				}
				conf := b.get(b.supplicantPath())
				if !strings.Contains(conf, "country=DE") || !strings.Contains(conf, "ssid=48617573") || !strings.Contains(conf, "psk=") || strings.Contains(conf, "staple") {
					t.Errorf("wpa_supplicant is told\n%s", conf)
				}
				if to, err := os.Readlink(b.zonePath()); err != nil || to != filepath.Join(b.Zones, "Europe", "Berlin") {
					t.Errorf("%s, %v", to, err)
				}
				if got := b.get(b.configPath()); !strings.HasSuffix(got, "\n\"domains\" = [\"miller.example\"]\n\"family\" = \"Miller\"\n\"log\" = {\"level\" = \"warn\"}\n") {
					t.Errorf("the daemon is told\n%s", got)
				}
				if b.writable != 1 {
					t.Errorf("round %d: the card was written %d times", round, b.writable)
				}
			}
			for _, path := range []string{b.supplicantPath(), b.keptPath()} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
			}
		})
	}
}

// The card comes back from a computer.
func TestChange(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, family)
	b.restart()
	conf := b.get(b.supplicantPath())
	steps := []struct{ name, text, facts, domain, level string }{
		{"another level", strings.Replace(b.fat(FileName), "warn", "error", 1), "", "miller.example", "error"},
		{"a bad country, a good level", strings.NewReplacer(`"DE"`, `"UK"`, "warn", "debug").Replace(b.fat(FileName)),
			"degraded: pibox.toml, line 12, wifi.country: the United Kingdom is GB", "miller.example", "debug"},
		{"a bad level, a good domain", strings.NewReplacer("warn", "loud", "miller.example", "mueller.example").Replace(b.fat(FileName)),
			`degraded: pibox.toml, line 15, log.level: "loud" must be one of: debug, info, warn, error`, "mueller.example", "debug"},
		{"no TOML at all", "<html>", "degraded: pibox.toml, line 1: not TOML: expected '.' or '=', but got '<' instead", "mueller.example", "debug"},
		{"nothing", "\ufeff \r\n", "degraded: pibox.toml is empty: the settings stay as they were", "mueller.example", "debug"},
		{"UTF-16", "\xff\xfed\x00", "degraded: pibox.toml is not saved as UTF-8: choose that in your editor's window for saving. The settings stay as they were", "mueller.example", "debug"},
	}
	for _, s := range steps {
		b.onFAT(FileName, s.text)
		if got := texts(b.restart()); got != s.facts {
			t.Errorf("%s: %s", s.name, got)
		}
		if got := b.get(b.configPath()); !strings.Contains(got, fmt.Sprintf("%q", s.domain)) || !strings.Contains(got, s.level) {
			t.Errorf("%s: the daemon is told\n%s", s.name, got)
		}
		if b.get(b.supplicantPath()) != conf {
			t.Errorf("%s: the Wi-Fi changed", s.name)
		}
	}
	// Another Wi-Fi, whose password is forgotten; then with it; then none.
	b.onFAT(FileName, "[wifi]\nssid = \"Garten\"\ncountry = \"DE\"\n")
	if got := texts(b.restart()); got != `degraded: pibox.toml, line 1: the password of the Wi-Fi "Garten" is missing (for one without a password: open = true)` || b.get(b.supplicantPath()) != conf {
		t.Error(got)
	}
	b.onFAT(FileName, "[wifi]\nssid = \"Garten\"\ncountry = \"DE\"\npassword = '12345678'\n")
	if got := texts(b.restart()); got != "" || !strings.Contains(b.get(b.supplicantPath()), "ssid=47617274656e") || strings.Contains(b.fat(FileName), "1234") {
		t.Error(got)
	}
	b.onFAT(FileName, "# nothing\n")
	if got := texts(b.restart()); got != "" || isThere(b.supplicantPath()) || isThere(b.configPath()) {
		t.Error(got)
	}
}

// A first boot with mistakes takes what is good.
func TestFirstBootWithMistakes(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, strings.NewReplacer("warn", "loud", "Europe", "Eurpoe", `"DE"`, `DE`).Replace(family)+"[s2s]\ntrust = [\"none.pem\"]\ndialback = true\n")
	facts := texts(b.restart())
	for _, want := range []string{
		`pibox.toml, line 12, wifi.country: not TOML`, `pibox.toml, line 15, log.level: "loud" must be`, `there is no file`, `there is no time zone "Eurpoe/Berlin"`,
	} {
		if !strings.Contains(facts, want) {
			t.Errorf("%s\nis missing in\n%s", want, facts)
		}
	}
	if got := b.get(b.configPath()); !strings.Contains(got, `"miller.example"`) || !strings.Contains(got, `"dialback" = true`) || strings.Contains(got, "loud") {
		t.Errorf("%s", got)
	}
	// The Wi-Fi was not taken over: its password stays until it is. That of the administrator is moved.
	if got := b.fat(FileName); !strings.Contains(got, "battery staple") || strings.Contains(got, "correct horse") || b.orders().Password != "correct horse" {
		t.Errorf("%s", got)
	}
}

// Certificates may lie beside the settings.
func TestNamedFiles(t *testing.T) {
	b := newBoard(t)
	certificate := aCertificate(t)
	b.onFAT("grandma.pem", certificate)
	b.onFAT(FileName, "[s2s]\ntrust = [\"grandma.pem\"]\n")
	if facts := b.restart(); len(facts) > 0 {
		t.Error(texts(facts))
	}
	to := filepath.Join(filepath.Dir(b.configPath()), "grandma.pem")
	if b.get(to) != certificate || !strings.Contains(b.get(b.configPath()), to) {
		t.Errorf("%s", b.get(b.configPath()))
	}
}

func aCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

func TestWithoutData(t *testing.T) {
	b := newBoard(t)
	b.noData = true
	b.onFAT(FileName, family)
	facts := b.restart()
	if worst(facts) != Failing || !strings.Contains(texts(facts), "data partition is missing") || b.fat(FileName) != family || isThere(b.keptPath()) {
		t.Errorf("%s", texts(facts))
	}
	if b.hostname != "pibox" {
		t.Error(b.hostname)
	}
	if err := b.Status(); err != nil {
		t.Fatal(err)
	}
	if got := b.fat(StatusName); !strings.Contains(got, "It does not work:\r\n- The card's data partition is missing") {
		t.Errorf("%s", got)
	}
}

func TestDamagedState(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, family)
	b.restart()
	b.put(b.keptPath(), "{")
	if got := texts(b.restart()); !strings.Contains(got, "write the Wi-Fi's password into pibox.toml again") || !strings.Contains(got, `the password of the Wi-Fi "Haus" is missing`) {
		t.Error(got)
	}
}

// A board without a battery begins in 1970: the time is at least that of the build, and of what was written last.
func TestClock(t *testing.T) {
	b := newBoard(t)
	b.now = time.Unix(0, 0)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, path := range []string{b.Epoch, b.Clock, b.Store} {
		b.put(path, "")
		want := at.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(path, want, want); err != nil {
			t.Fatal(err)
		}
		b.restart()
		if !b.clock.Equal(want) {
			t.Errorf("%v, want %v", b.clock, want)
		}
	}
	b.now, b.clock = at.Add(time.Hour*3), time.Time{}
	b.restart()
	if !b.clock.IsZero() {
		t.Errorf("set back to %v", b.clock)
	}
}

func TestLocalDomainIsTheHostname(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, "domain = \"miller.local\"\n")
	b.restart()
	if b.hostname != "miller" {
		t.Error(b.hostname)
	}
}

// An edit that takes away what an earlier one said about the file's own way of writing.
func TestSecretsInAnyNotation(t *testing.T) {
	for _, text := range []string{
		"wifi.ssid = 'x'\nwifi.country = 'DE'\nwifi.password = 'topsecret'\n",
		"wifi = { ssid = \"x\", password = \"topsecret\", country = \"DE\" }\n",
		"[wifi]\nssid = \"x\"\ncountry = \"DE\"\npassword = \"top\\u0073ecret\" # mine\n",
		"[wifi]\nssid = \"x\"\ncountry = \"DE\"\n\"password\" = \"\"\"\ntopsecret\"\"\"\n",
	} {
		b := newBoard(t)
		b.onFAT(FileName, text)
		facts := texts(b.restart())
		got := b.fat(FileName)
		if facts != "" || strings.Contains(got, "secret") || strings.Contains(got, "ecret") || len(got) != len(text) || !strings.Contains(b.get(b.supplicantPath()), "psk=") {
			t.Errorf("%s\nbecame\n%s\n%s", text, got, facts)
		}
		if facts := texts(b.restart()); facts != "" {
			t.Errorf("%s\nis later\n%s", text, facts)
		}
	}
	// A key whose name is written in a way that is not found.
	b := newBoard(t)
	b.onFAT(FileName, "[wifi]\nssid = \"x\"\ncountry = \"DE\"\n\"pass\\u0077ord\" = \"topsecret\"\n")
	if facts := texts(b.restart()); facts != "degraded: wifi.password could not be taken from pibox.toml: remove it there yourself" {
		t.Error(facts)
	}
}
