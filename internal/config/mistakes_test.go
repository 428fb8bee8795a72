package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMistakes reads as a list of files and what a person is told about each.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"all at once", `
domain = "example.org"
langauge = "de"
[c2s]
listen = "5222"
keepalive = 30
stanza = "1KiB"
connections = "many"
deny = []
[s2s]
enabled = "yes"
[moved]
forwarding_days = 30
[web]
port = 80
`, `
p:2: domain: unknown key; did you mean domains?
p:3: langauge: unknown key; did you mean language?
p:5: c2s.listen: must be a list, not the string "5222"
p:6: c2s.keepalive: "30" is no length of time; write it like "90s", "5m" or "2h30m"
p:7: c2s.stanza: 1KiB is out of range: 10000B to 16MiB
p:8: c2s.connections: must be a whole number, not the string "many"
p:9: c2s.deny: unknown key; deny belongs in [s2s]
p:11: s2s.enabled: must be true or false, not the string "yes"
p:13: moved.forwarding_days: 30 is out of range: 90 to 3650
p:14: web: unknown key; known here: domains, data_dir, family, language, log, contact, tls, login, c2s, s2s, limits, dns, moved, archive, push, store, health, backup, admin`},

		{"syntax, and the rest too", `
language = de
[log]
level = "loud"
format = "text
`, `
p:2: language: not TOML: expected value but found "de" instead
p:4: log.level: "loud" must be one of: debug, info, warn, error
p:5: log.format: not TOML: strings cannot contain newlines`},

		{"twice", "language = \"de\"\nlanguage = \"en\"\n", `
p:2: language: not TOML: Key 'language' has already been defined`},

		{"domains", `domains = [
  "example.org", # fine
  "Example.ORG.",
  "192.0.2.1",
  "a b",
  "",
  "romeo@example.org",
  "a..b",
  "MÜNCHEN.example",
]`, `
p:3: domains[1]: "example.org" is listed twice
p:4: domains[2]: "192.0.2.1" is an IP address; a name such as example.org is needed
p:5: domains[3]: "a b" is no domain such as example.org
p:6: domains[4]: a domain is missing, such as example.org
p:7: domains[5]: "romeo@example.org" is no domain: only the name itself, without '@'
p:8: domains[6]: "a..b" is no domain: each part between dots has 1 to 63 characters`},

		{"listeners", `
[c2s]
listen = [":5222", "localhost:5222", "5222", ":99999", "[::1]:0", "[::1]:0"]
listen_tls = ["192.0.2.1:5222"]
`, `
p:3: c2s.listen[1]: "localhost:5222": "localhost" is no IP address; leave it out to listen on all
p:3: c2s.listen[2]: "5222" is no address with a port, such as ":5222" or "192.0.2.1:5222"
p:3: c2s.listen[3]: ":99999": the port must be a number from 1 to 65535
p:3: c2s.listen[1]: "localhost:5222" is already taken by c2s.listen[0] on line 3
p:4: c2s.listen_tls[0]: "192.0.2.1:5222" is already taken by c2s.listen[0] on line 3`},

		{"routes", `
domains = ["here.example"]
[s2s]
allow = ["*.example", "*example"]
[[s2s.route]]
domain = "a.example"
address = "192.0.2.1"
[[s2s.route]]
domian = "b.example"
address = "host.example:5269"
tls = "none"
[[s2s.route]]
domain = "A.example"
address = "host.example:0"
[[s2s.route]]
domain = "here.example"
address = "[2001:DB8::1]:5269"
`, `
p:4: s2s.allow[1]: "*example" is no domain such as example.org
p:7: s2s.route[0].address: "192.0.2.1" is no address with a port, such as "192.0.2.1:5269" or "xmpp.example.org:5269"
p:8: s2s.route[1]: domain is missing
p:9: s2s.route[1].domian: unknown key; did you mean domain?
p:11: s2s.route[1].tls: "none" must be one of: starttls, direct
p:13: s2s.route[2].domain: "a.example" has a route already, on line 6
p:14: s2s.route[2].address: "host.example:0": the port must be a number from 1 to 65535
p:16: s2s.route[3].domain: "here.example" is a domain of this box`},

		{"inline tables", `s2s = {enabled = true, route = [
  {domain = "a.example", address = "a.example:5269"},
  {domain = "b.example", tls = 1},
]}`, `
p:3: s2s.route[1].tls: must be a string in quotes, not the number 1
p:3: s2s.route[1]: address is missing`},

		{"wrong shapes", `
log = "debug"
c2s = [1]
domains = "example.org"
[[dns]]
server = "x"
[tls.certificate]
domain = "x"
`, `
p:2: log: must be a table, not the string "debug"
p:3: c2s: must be a table, not a list
p:4: domains: must be a list, not the string "example.org"
p:5: dns: must be a table, not a list
p:7: tls.certificate: must be a list, not a table`},

		{"other texts", `
language = "german language"
[dns]
server = "resolver.example"
[contact]
abuse = ["abuse@example.org", "mailto:abuse@example.org", "xmpp:romeo@example.org", "https://example.org/x", "mailto:x"]
[health]
status_led = "../x"
gpio = "GPIO 17"
led_dir = ""
[admin]
group = "no-such-group-here"
`, `
p:2: language: "german language" is no language tag such as en, de or pt-BR
p:4: dns.server: "resolver.example" is no resolver address, such as "192.0.2.53" or "[2001:db8::53]:53"
p:6: contact.abuse[0]: "abuse@example.org" is no contact URI, such as "mailto:admin@example.org", "xmpp:admin@example.org" or "https://example.org/help"
p:6: contact.abuse[4]: "mailto:x" is no contact URI, such as "mailto:admin@example.org", "xmpp:admin@example.org" or "https://example.org/help"
p:8: health.status_led: "../x" is no name of a LED: auto, none, or one of the names in led_dir
p:9: health.gpio: "GPIO 17" is no name of a pin such as GPIO17
p:10: health.led_dir: is empty; to leave LEDs alone set status_led and power_led to none
p:12: admin.group: there is no group "no-such-group-here" on this machine`},

		{"values against each other", `
[login]
delay = "1m"
[moved]
per_domain = 10
per_sender = 20
[s2s]
queue_total = "512KiB"
[limits]
depth = 1_000_000_000_000
[c2s]
stanza_before_login = "1MiB"
connections = 100
`, `
p:3: login.delay: 1m must not be more than login.max_delay, which is 20s
p:6: moved.per_sender: 20 must not be more than moved.per_domain, which is 10
p:8: s2s.queue_total: 512KiB must not be less than s2s.queue_bytes, which is 1MiB
p:10: limits.depth: 1000000000000 is out of range: 8 to 1000
p:12: c2s.stanza_before_login: 1MiB must not be more than c2s.stanza, which is 256KiB
p:13: c2s.connections: 100 must not be less than c2s.connections_per_address, which is 200`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := Parse("p", tt.file, testTime())
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), problems.Error()); diff != "" {
				t.Errorf("(-want +got)\n%s\ngot:\n%s", diff, problems.Error())
			}
		})
	}
}

func TestCanonical(t *testing.T) {
	cfg, problems := Parse("p", `
domains = ["MÜNCHEN.example.", "xn--mnchen-3ya.example.org"]
[dns]
server = "2001:DB8::53"
[c2s]
listen = ["[2001:DB8::1]:5222"]
[[s2s.route]]
domain = "B.Example"
address = "HOST.example:5269"
`, testTime())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := []string{cfg.Domains[0], cfg.Domains[1], cfg.DNS.Server, cfg.C2S.Listen[0], cfg.S2S.Routes[0].Domain, cfg.S2S.Routes[0].Address, cfg.S2S.Routes[0].TLS}
	want := []string{"münchen.example", "münchen.example.org", "[2001:db8::53]:53", "[2001:db8::1]:5222", "b.example", "host.example:5269", "starttls"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"512B": 512, "10kB": 10_000, "10 KB": 10_000, "256KiB": 256 << 10, "256 kib": 256 << 10, "4MiB": 4 << 20, "1TiB": 1 << 40, "0B": 0,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: got %d, %v", text, b, err)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%s prints as %s", text, b)
		}
	}
	for _, text := range []string{"", "B", "10", "-1B", "1.5MiB", "10 apples", "99999999999999TiB", "0x10B", "iB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
}

// One mistake in the syntax is told once, on the line that a person has to change.
func TestLineOfSyntaxMistakes(t *testing.T) {
	for text, line := range map[string]int{
		"domains = [\"a.example\"\n[c2s]\nlisten = [\":5222\"]\n":           1,
		"[c2s]\nlisten = [\n  \":5222\"\n  \":5223\"\n]\n":                  3,
		"language = \"de\"\n\n[c2s\nlisten = [\":5222\"]\n":                 3,
		"[c2s]\nkeepalive = \"5m\nlisten_tls = []\nlisten = [\":1\"]\n\"\n": 2,
		"language = de\n[c2s]\n":                                            1,
		"domains = [\"a.example\"]\nlanguage\n[c2s]\n":                      2,
	} {
		_, problems := Parse("pibox.toml", text, time.Now())
		if len(problems) != 1 || problems[0].Line != line {
			t.Errorf("%q: %v, want line %d alone", text, problems, line)
		}
	}
}

// What waits in memory is counted in an int, which has 31 bits on a Pi with a 32-bit system.
func TestQueuesFitIntoMemory(t *testing.T) {
	for _, size := range []string{"2GiB", "4GiB", "1073741825B"} {
		if _, problems := Parse("p", "[s2s]\nqueue_total = \""+size+"\"\n", testTime()); !strings.Contains(problems.Error(), "s2s.queue_total: "+size+" is out of range") {
			t.Errorf("%s: %v", size, problems)
		}
	}
}
