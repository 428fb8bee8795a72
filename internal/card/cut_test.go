package card

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pibox/internal/config"
)

// long is a file whose secrets lie across the borders of sectors.
func long() string {
	pad := func(n int) string { return "# " + strings.Repeat("x", n-3) + "\n" }
	head := "[administrator]\nname = \"mum\"\n"
	text := head + pad(505-len(head)-len("password = ")) + "password = \"correct horse\"\n"
	text += pad(1020-len(text)-len("[wifi]\nssid = \"Haus\"\ncountry = \"DE\"\npassword = \"bat #")) + "[wifi]\nssid = \"Haus\"\ncountry = \"DE\"\npassword = \"bat # staple\"\n"
	return text + "[restore]\npassphrase = \"\"\"" + strings.Repeat("many words ", 100) + "\"\"\"\n"
}

// A power cut anywhere leaves each secret on the card or in the box, never in neither; and boots after it end in the same.
func TestCuts(t *testing.T) {
	for seed := range uint64(12) {
		for n := 1; ; n++ {
			b := newBoard(t)
			b.onFAT(FileName, long())
			if !b.untilCut(n, seed, func() { b.restart() }) {
				if n < 6 {
					t.Fatalf("only %d changes", n)
				}
				break
			}
			b.secretsAreSomewhere(fmt.Sprintf("seed %d, cut %d", seed, n))
			for m := 1; b.untilCut(m, seed+1, func() { b.restart() }) && m < 3; m++ {
				b.secretsAreSomewhere(fmt.Sprintf("seed %d, cuts %d and %d", seed, n, m))
			}
			if facts := b.restart(); len(facts) > 0 {
				t.Errorf("seed %d, cut %d: %s", seed, n, texts(facts))
			}
			if o := b.orders(); o.Administrator != "mum" || o.Password != "correct horse" {
				t.Errorf("seed %d, cut %d: %+v", seed, n, o)
			}
			got := b.fat(FileName)
			for _, secret := range []string{"correct", "horse", "bat", "staple", "many", "words"} {
				if strings.Contains(got, secret) {
					t.Errorf("seed %d, cut %d: %q is still on the card", seed, n, secret)
				}
			}
			if len(got) != len(long()) || !strings.Contains(b.get(b.supplicantPath()), "psk=") {
				t.Errorf("seed %d, cut %d: the end is another one", seed, n)
			}
		}
	}
}

func (b *board) secretsAreSomewhere(when string) {
	b.t.Helper()
	k, err := b.load()
	if err != nil {
		b.t.Fatalf("%s: %v", when, err)
	}
	s := parse("x", b.fat(FileName), k.Blank, testTime())
	for name, where := range map[string][2]string{
		"administrator": {s.settings.Administrator.Password, k.Password},
		"wifi":          {s.settings.WiFi.Password, k.Key.PSK},
		"restore":       {s.settings.Restore.Passphrase, k.Passphrase},
	} {
		if where[0] == "" && where[1] == "" {
			b.t.Errorf("%s: that of %s is lost", when, name)
		}
	}
}

// A person writes a new password, of the same length, into a file from which the old one was about to be taken.
func TestNewSecretAfterACut(t *testing.T) {
	for seed := range uint64(8) {
		for n := 1; n < 9; n++ {
			b := newBoard(t)
			b.onFAT(FileName, "[administrator]\npassword = \"correct horse\"\n")
			b.untilCut(n, seed, func() { b.restart() })
			b.onFAT(FileName, "[administrator]\npassword = \"battery horse\"\n")
			b.restart()
			if got := b.orders().Password; got != "battery horse" || strings.Contains(b.fat(FileName), "horse") {
				t.Errorf("seed %d, cut %d: %q", seed, n, got)
			}
		}
	}
}

// The daemon, as far as orders go: it carries each out once, after a cut too.
type daemonModel struct {
	last      string
	passwords int
	shown     bool
}

func (d *daemonModel) start(o Orders) {
	if o.Recover != "" && o.Recover != d.last {
		d.last, d.shown = o.Recover, true
		d.passwords++
	}
}

// Wherever the power fails, one file recover makes one new password.
func TestRecoverCuts(t *testing.T) {
	for seed := range uint64(20) {
		for n := 1; n < 9; n++ {
			for withDaemon := range 2 {
				b, d := newBoard(t), &daemonModel{}
				b.restart()
				b.onFAT("RECOVER", "")
				wasCut := b.untilCut(n, seed, func() {
					b.restart()
					d.start(b.orders())
				})
				if wasCut && withDaemon == 1 { // the cut came after what the daemon saw
					if o, err := ReadOrders(b.Run); err == nil {
						d.start(o)
					}
				}
				for range 3 {
					b.restart()
					d.start(b.orders())
				}
				if d.passwords != 1 || isThere(filepath.Join(b.FAT, "RECOVER")) {
					t.Errorf("seed %d, cut %d: %d passwords", seed, n, d.passwords)
				}
				b.report(Report{Serving: true, Recovered: d.last})
				if err := b.Status(); err != nil || b.restart() != nil || b.orders().Recover != "" {
					t.Errorf("the order stays: %v, %+v", err, b.orders())
				}
				b.onFAT("recover.txt", "")
				b.restart()
				d.start(b.orders())
				if d.passwords != 2 {
					t.Errorf("seed %d, cut %d: a second file made %d passwords", seed, n, d.passwords-1)
				}
			}
		}
	}
}

// One that can not be removed works once all the same.
func TestRecoverStays(t *testing.T) {
	b, d := newBoard(t), &daemonModel{}
	b.onFAT("recover", "")
	b.readOnly = true
	for range 3 {
		if got := texts(b.restart()); got != "degraded: the file recover did its work and could not be removed: remove it yourself" {
			t.Error(got)
		}
		d.start(b.orders())
		b.report(Report{Serving: true, Recovered: d.last})
		_ = b.Status()
	}
	if d.passwords != 1 {
		t.Errorf("%d passwords", d.passwords)
	}
}

func (b *board) report(r Report) {
	b.t.Helper()
	if err := WriteReport(b.Daemon, r); err != nil {
		b.t.Fatal(err)
	}
}

// Whatever stands on the card, the box comes up; and what was taken over as a secret does not stay there.
func FuzzBoot(f *testing.F) {
	for _, s := range []string{family, long(), "", "\x00", "[wifi]\npassword = 'x", "wifi = {password = \"a\", ssid = \"b\"}", "\"\"\"", "[[tls.certificate]]\n", "[a]\r\n[a.b]\n", "domain = \"pibox.local\"\nhostname = \"\"\n", "[restore]\npassphrase = \"-\"\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := newBoard(t)
		b.onFAT(FileName, text)
		b.restart()
		after := b.fat(FileName)
		if len(after) != len(text) {
			t.Fatalf("%q became %q", text, after)
		}
		s := parseText(filepath.Join(b.FAT, FileName), after, testTime())
		if len(s.file.Problems.Mistakes()) == 0 && strings.TrimSpace(text) != "" {
			for name, secret := range s.settings.secrets() {
				if *secret != "" && s.file.Spans[name] != (config.Span{}) && !strings.Contains(texts(b.restart()), "password of the Wi-Fi") {
					t.Errorf("%s is still in %q", name, after)
				}
			}
		}
		if conf := b.get(b.configPath()); conf != "" {
			if _, problems := config.Parse(b.configPath(), conf, testTime()); problems.Err() != nil {
				t.Errorf("the daemon is given\n%s\n%v", conf, problems)
			}
		}
		again := b.restart()
		if b.fat(FileName) != after {
			t.Errorf("the second boot changed it: %s", texts(again))
		}
	})
}
