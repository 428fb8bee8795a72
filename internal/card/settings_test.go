package card

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pibox/internal/config"
)

func testTime() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// The file on a new card means the same as none, as it is and with every key's # taken away.
func TestExample(t *testing.T) {
	dir := t.TempDir()
	if err := Lay(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(raw, []byte("\n")); n != bytes.Count(raw, []byte("\r\n")) || n < 60 {
		t.Errorf("%d lines, not all of which end as Windows wants it", n)
	}
	keys := regexp.MustCompile(`(?m)^#([a-z])`)
	active := keys.ReplaceAllString(string(raw), "$1")
	if len(keys.FindAllString(string(raw), -1)) < 13 {
		t.Error("keys are missing")
	}
	for name, text := range map[string]string{"as it lies there": string(raw), "active": active} {
		s := parseText("pibox.toml", text, testTime())
		if len(s.file.Problems) > 0 {
			t.Errorf("%s: %v", name, s.file.Problems)
		}
		if diff := cmp.Diff(Defaults(), s.settings); diff != "" {
			t.Errorf("%s: not the defaults (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(config.Default(), s.file.Config); diff != "" {
			t.Errorf("%s: not the defaults (-want +got):\n%s", name, diff)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, StatusName)); err != nil || info.Size() != statusSize {
		t.Errorf("%v, %v", info, err)
	}
}

// TestMistakes reads as a list of files and what a person is told about each.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"all good", "\ufefffamily = \"Miller\"\r\ndomain = \"miller.example\"\r\nlanguage = \"de\"\r\n[wifi]\r\nssid = \"Haus\"\r\npassword = \"geheim 123\"\r\ncountry = \"de\"\r\n[log]\r\nlevel = \"warn\"\r\n", ""},
		{"a slip of the pen", "domian = \"miller.example\"\ntimezone = \"Europe/Berlin\"\n[wifi]\nssid = \"x\"\ncountry = \"DE\"\npasword = \"12345678\"\n", `
p:1: domian: unknown key; did you mean domain?
p:2: timezone: unknown key; did you mean time_zone?
p:6: wifi.pasword: unknown key; did you mean password?`},
		{"no country", "[wifi]\nssid = \"x\"\npassword = \"12345678\"\n", `
p:1: wifi: the country is missing, such as country = "DE": without it no Wi-Fi may be used`},
		{"the wrong country", "[wifi]\nssid = \"x\"\ncountry = \"UK\"\nopen = true\npassword = \"12345678\"\n", `
p:3: wifi.country: the United Kingdom is GB
p:4: wifi.open: a Wi-Fi with a password is not open`},
		{"no such country", "[wifi]\nssid = \"x\"\ncountry = \"XX\"\n", `
p:3: wifi.country: "XX" is no country with two letters, such as DE, FR, GB or US`},
		{"no name", "[wifi]\ncountry = \"DE\"\n", `
p:1: wifi: the name of the Wi-Fi (ssid) is missing`},
		{"passwords", "[wifi]\nssid = \"x\"\ncountry = \"DE\"\npassword = \"short\"\n", `
p:4: wifi.password: a password of a Wi-Fi has 8 to 63 characters, this one has 5`},
		{"an umlaut", "[wifi]\nssid = \"x\"\ncountry = \"DE\"\npassword = \"schlüssel\"\n", `
p:4: wifi.password: a password of a Wi-Fi has only letters without accents, digits and signs`},
		{"names", "hostname = \"my box\"\ntime_zone = \"../etc/passwd\"\nfamily = \"a\\u0007b\"\n[administrator]\nname = \"mum@home\"\n", `
p:1: hostname: "my box" is no name for a computer: up to 63 letters from a to z, digits and hyphens
p:2: time_zone: "../etc/passwd" is no time zone, such as Europe/Berlin
p:3: family: "a\ab" has a character that can not be shown
p:5: administrator.name: "mum@home" can not be the first part of an address: letters, digits, dots, hyphens and underscores, without the @ and what follows`},
		{"what is fixed", "domain = \"a.example\"\ndomains = [\"b.example\"]\ndata_dir = \"/x\"\n[admin]\ngroup = \"\"\n", `
p:1: domain: there are domains, too: write one of the two
p:3: data_dir: is fixed on the card
p:4: admin: is fixed on the card`},
		{"not TOML", "domain = miller.example\nlanguage = \"xx yy\"\n", `
p:1: domain: not TOML: expected value but found "miller" instead
p:2: language: "xx yy" is no language tag such as en, de or pt-BR`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Check("p", tt.file, testTime()).Error()
			if want := strings.TrimPrefix(tt.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What wpa_supplicant reads has nothing of what a person wrote but hexadecimal digits and a country.
func FuzzSSID(f *testing.F) {
	for _, s := range []string{"IEEE", "Haus Müller", "\"\nnetwork={", "#", "", "\xff\x00", strings.Repeat("x", 33)} {
		f.Add(s, "password", true, false)
		f.Add(s, "\"}\n", false, true)
	}
	line := regexp.MustCompile(`^(\tssid=[0-9a-f]+|\tscan_ssid=1|\tkey_mgmt=(NONE|SAE|WPA-PSK WPA-PSK-SHA256)|\tieee80211w=[12]|\tpsk=[0-9a-f]{64}|\tsae_password=[0-9a-f]+|network=\{|\}|country=DE|update_config=0|ctrl_interface=DIR=/run/wpa_supplicant|#.*)$`)
	f.Fuzz(func(t *testing.T, ssid, password string, hidden, wpa3 bool) {
		w := WiFi{SSID: ssid, Password: password, Country: "DE", Hidden: hidden, WPA3: wpa3}
		if ssid == "" || len(ssid) > 32 || password == "" || passwordOK(password, wpa3) != nil {
			return
		}
		key, err := w.key(wifiKey{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range strings.Split(strings.TrimSuffix(w.supplicant(key), "\n"), "\n") {
			if !line.MatchString(l) {
				t.Fatalf("%q", l)
			}
		}
		if again, err := (WiFi{SSID: ssid, WPA3: wpa3}).key(key); err != nil || again != key {
			t.Errorf("the key is not known again: %v", err)
		}
		if _, err := (WiFi{SSID: ssid + "x", WPA3: wpa3}).key(key); err == nil {
			t.Error("another Wi-Fi is opened by it")
		}
	})
}

// IEEE 802.11-2020 J.4.2.
func TestKey(t *testing.T) {
	for _, tt := range []struct{ ssid, password, want string }{
		{"IEEE", "password", "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"},
		{"ThisIsASSID", "ThisIsAPassword", "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"},
		{strings.Repeat("Z", 32), strings.Repeat("a", 32), "becb93866bb8c3832cb777c2f559807c8c59afcb6eae734885001300a981cc62"},
		{"any", strings.Repeat("AB", 32), strings.Repeat("ab", 32)},
	} {
		if k, err := (WiFi{SSID: tt.ssid, Password: tt.password}).key(wifiKey{}); err != nil || k.PSK != tt.want {
			t.Errorf("%s: %s, %v", tt.ssid, k.PSK, err)
		}
	}
	if k, err := (WiFi{SSID: "x", Open: true}).key(wifiKey{SSID: "78", PSK: "aa"}); err != nil || k != (wifiKey{}) {
		t.Errorf("%v, %v", k, err)
	}
}
