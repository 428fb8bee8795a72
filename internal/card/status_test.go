package card

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/health"
)

func aReport() Report {
	return Report{
		State: "well", Serving: true, Begun: true, Family: "Miller", Domains: []string{"miller.example"}, Port: "5222",
		Login:        &Login{Address: "mum@miller.example", Password: "abcd-efgh-jkmn-pqrs-tuvw"},
		Certificates: []Certificate{{"miller.example", "AA:BB"}},
	}
}

func TestStatus(t *testing.T) {
	b := newBoard(t)
	if err := Lay(b.FAT); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.report(aReport())
	b.put(b.Synced, "")
	if err := b.Status(); err != nil {
		t.Fatal(err)
	}
	want := `pibox, the chat server of the family Miller
===========================================

It works.

The administrator logs in with an app for XMPP, such as Conversations, Dino or Monal:

    address   mum@miller.example
    password  abcd-efgh-jkmn-pqrs-tuvw

It disappears from here at the first login. Choose your own password in the app then: this one ends to work
a week later.

An app that does not find the box by itself is told in its advanced settings:

    server    pibox.local or 192.0.2.7
    port      5222
    addresses end with  @miller.example

An app that asks whether to trust the box shows this certificate (SHA-256):

    miller.example
    AA:BB

Settings: pibox.toml beside this file. Lost the administrator's password? Put an empty file named
recover beside it and start the box again.

Written on 22 November 2026, 20:00.
`
	got := b.fat(StatusName)
	if trimmed := strings.TrimRight(strings.ReplaceAll(got, "\r\n", "\n"), " \n") + "\n"; trimmed != want || len(got) != statusSize {
		t.Errorf("%d bytes:\n%s", len(got), trimmed)
	}
	if !strings.Contains(b.screen, "abcd-efgh") {
		t.Errorf("on the screen is\n%s", b.screen)
	}
	// Nothing changed: nothing is written.
	b.now = b.now.Add(time.Hour)
	if err := b.Status(); err != nil || b.writable != 1 || b.screens != 1 {
		t.Errorf("written %d times, shown %d times; %v", b.writable, b.screens, err)
	}
	// The first login takes the password away, at once.
	b.now = b.now.Add(-time.Hour + time.Second)
	r := aReport()
	r.Login = nil
	b.report(r)
	if err := b.Status(); err != nil || b.writable != 2 || strings.Contains(b.fat(StatusName), "abcd") || strings.Contains(b.screen, "abcd") {
		t.Errorf("written %d times; %v\n%s", b.writable, err, b.screen)
	}
	// What changes often is written seldom.
	for i := range 20 {
		b.now = b.now.Add(time.Minute)
		r.Facts = []Fact{{"pulse", Degraded, "it is slow: " + strings.Repeat("x", i)}}
		b.report(r)
		if err := b.Status(); err != nil {
			t.Fatal(err)
		}
	}
	if b.writable > 4 || b.screens != 22 {
		t.Errorf("written %d times, shown %d times", b.writable, b.screens)
	}
}

// A power cut within the writing leaves a text of both that the next run makes whole.
func TestStatusCuts(t *testing.T) {
	for seed := range uint64(10) {
		b := newBoard(t)
		if err := Lay(b.FAT); err != nil {
			t.Fatal(err)
		}
		b.restart()
		b.report(aReport())
		if !b.untilCut(1, seed, func() { _ = b.Status() }) {
			t.Fatal("nothing was written")
		}
		b.restart()
		b.report(aReport())
		if err := b.Status(); err != nil || !strings.Contains(b.fat(StatusName), "It works.") || !strings.Contains(b.fat(StatusName), "abcd-efgh") {
			t.Errorf("%v\n%s", err, b.fat(StatusName))
		}
	}
}

// While the box starts only the screen is told.
func TestStatusWhileStarting(t *testing.T) {
	b := newBoard(t)
	b.restart()
	b.up, b.addresses = time.Second, nil
	for _, step := range []struct {
		up    time.Duration
		state string
	}{{time.Second, ""}, {2 * time.Second, "starting"}, {3 * time.Second, "well"}} {
		b.up = step.up
		if step.state != "" {
			r := aReport()
			r.State = step.state
			b.report(r)
		}
		if err := b.Status(); err != nil || isThere(filepath.Join(b.FAT, StatusName)) {
			t.Errorf("%s: it is on the card, %v", step.state, err)
		}
	}
	b.addresses = []string{"192.0.2.9"}
	if err := b.Status(); err != nil || !strings.Contains(b.fat(StatusName), "192.0.2.9") {
		t.Errorf("%v\n%s", err, b.fat(StatusName))
	}
}

// What nobody tells is found out: no network, a daemon that does not start; the daemon is told what it can not see.
func TestFaults(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, "[wifi]\nssid = \"Haus\"\n")
	b.restart()
	b.addresses, b.up = nil, 5*time.Minute
	if err := b.Status(); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(b.fat(StatusName)), " ")
	for _, want := range []string{"It does not work:", "The chat server does not start", "The box has no network: is the cable plugged in", "pibox.toml, line 1, wifi: the country is missing", "No time server was reached yet"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	facts, err := ReadFacts(b.Run)
	if err != nil || len(facts) != 2 || facts[0].Name != "settings/1" || facts[1].Name != "network" {
		t.Errorf("%+v, %v", facts, err)
	}
	// What the daemon says is no command to the screen.
	r := aReport()
	r.Facts = []Fact{{"x", Failing, "\x1b]0;evil\x07 the disk is full\nnow"}}
	r.Family = "\x1b[2J"
	b.report(r)
	if err := b.Status(); err != nil || strings.ContainsAny(b.screen, "\x1b\x07") || !strings.Contains(b.screen, "- ]0;evil the disk is full now\n") {
		t.Errorf("%v\n%q", err, b.screen)
	}
}

// A link in the daemon's folder leads root nowhere.
func TestReportIsNoLink(t *testing.T) {
	b := newBoard(t)
	b.restart()
	b.put(filepath.Join(b.Data, "secret"), `{"serving": true, "family": "secret"}`)
	if err := os.Symlink(filepath.Join(b.Data, "secret"), filepath.Join(b.Daemon, ReportFile)); err != nil {
		t.Fatal(err)
	}
	if err := b.Status(); err != nil || strings.Contains(b.screen, "secret") {
		t.Errorf("%v\n%s", err, b.screen)
	}
}

// What opened something is forgotten when it did.
func TestForgets(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, "[administrator]\npassword = \"correct horse\"\n[restore]\npassphrase = \"many words\"\n")
	b.onFAT("pibox-old.age", "x")
	b.restart()
	if b.get(filepath.Join(b.Run, RestoreFolder, restoreKey)) != "many words" || b.get(filepath.Join(b.Run, RestoreFolder, restoreBackup)) != "x" {
		t.Error("the backup does not lie ready")
	}
	b.report(Report{Begun: true, Serving: true})
	if err := b.Status(); err != nil {
		t.Fatal(err)
	}
	if raw := b.get(b.keptPath()); strings.Contains(raw, "horse") || strings.Contains(raw, "words") {
		t.Errorf("%s", raw)
	}
}

func TestRestore(t *testing.T) {
	ready := func(b *board) (backup, key string) {
		dir := filepath.Join(b.Run, RestoreFolder)
		return b.get(filepath.Join(dir, restoreBackup)), b.get(filepath.Join(dir, restoreKey))
	}
	b := newBoard(t)
	b.stick = t.TempDir()
	b.put(filepath.Join(b.stick, "pibox-20260101.AGE"), "old")
	b.put(filepath.Join(b.stick, "pibox-20261101.pibox"), "new")
	b.put(filepath.Join(b.stick, "._pibox-20261201.age"), "macOS")
	b.put(filepath.Join(b.stick, restoreKey), "many words\n")
	b.restart()
	if backup, key := ready(b); backup != "new" || key != "many words\n" {
		t.Errorf("%q, %q", backup, key)
	}
	b.onFAT("Pibox-Restore.age", "card") // goes before a stick, and before other names
	b.onFAT("zzz.age", "other")
	b.onFAT(FileName, "[restore]\npassphrase = \"other words\"\n")
	b.restart()
	if backup, key := ready(b); backup != "card" || key != "other words" {
		t.Errorf("%q, %q", backup, key)
	}
	// A box with a database restores nothing, and keeps no key.
	b.put(b.Store, "db")
	b.onFAT(restoreKey, "many words\n")
	b.restart()
	if backup, key := ready(b); backup+key != "" || isThere(filepath.Join(b.FAT, restoreKey)) || strings.Contains(b.get(b.keptPath()), "words") {
		t.Errorf("%q, %q\n%s", backup, key, b.get(b.keptPath()))
	}
}

// With a pass phrase and no backup, somebody forgot something: the box does not begin as a new family.
func TestHold(t *testing.T) {
	b := newBoard(t)
	b.onFAT(FileName, "[restore]\npassphrase = \"many words\"\n")
	b.restart()
	if o := b.orders(); !strings.Contains(o.Hold, "no backup (a file ending with .age or .pibox)") {
		t.Errorf("%+v", o)
	}
	b.onFAT(FileName, "[restore]\npassphrase = \"-\"\n")
	b.restart()
	if o := b.orders(); o.Hold != "" {
		t.Errorf("%+v", o)
	}
}

// The words are those of wpa_supplicant's control interface.
func TestWiFiWords(t *testing.T) {
	for _, tt := range []struct{ status, networks, results, want string }{
		{"wpa_state=COMPLETED\n", "", "", `the Wi-Fi "Häus" takes it, but the router gives it no address`},
		{"wpa_state=SCANNING\n", "network id / ssid / bssid / flags\n0\tH\\xc3\\xa4us\tany\t[TEMP-DISABLED]\n", "", `the Wi-Fi "Häus" refuses it: most likely its password in pibox.toml is wrong`},
		{"wpa_state=SCANNING\n", "", "bssid / frequency / signal level / flags / ssid\n00:00:00:00:00:01\t2412\t-30\t[ESS]\tNachbar\n00:00:00:00:00:02\t2412\t-30\t[ESS]\t\n",
			`no Wi-Fi named "Häus" is in reach. There are: Nachbar`},
		{"wpa_state=ASSOCIATING\n", "", "bssid\n00:00:00:00:00:01\t2412\t-30\t[ESS]\tH\\xc3\\xa4us\n", `the Wi-Fi "Häus" is there and does not let it in yet`},
		{"wpa_state=SCANNING\n", "", "bssid\n", `no Wi-Fi at all is in reach, and so not "Häus"`},
	} {
		b := newBoard(t)
		dir, err := os.MkdirTemp("", "wpa") // a socket's path is short
		if err != nil {
			t.Fatal(err)
		}
		b.Control = dir
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "wlan0"), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			answers := map[string]string{"STATUS": tt.status, "LIST_NETWORKS": tt.networks, "SCAN_RESULTS": tt.results}
			for buf := make([]byte, 100); ; {
				n, from, err := conn.ReadFromUnix(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteToUnix([]byte(answers[string(buf[:n])]), from)
			}
		}()
		if got := b.wifiWords(WiFi{SSID: "Häus"}); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
		_ = conn.Close()
		<-done
		_ = os.RemoveAll(dir)
	}
	if got := newBoard(t).wifiWords(WiFi{SSID: "x"}); got != "no Wi-Fi device was found on this board" {
		t.Error(got)
	}
}

// Without data the lights flicker, until the program ends: then the kernel has them.
func TestFault(t *testing.T) {
	b := newBoard(t)
	b.noData = true
	b.restart()
	led := filepath.Join(t.TempDir(), "ACT")
	b.put(filepath.Join(led, "brightness"), "0")
	b.put(filepath.Join(led, "trigger"), "[mmc0] none heartbeat")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Fault(ctx, health.LEDConfig{Dir: filepath.Dir(led)}) }()
		changes, last := 0, ""
		for range 200 {
			time.Sleep(10 * time.Millisecond) // of the bubble's clock
			synctest.Wait()
			if now := b.get(filepath.Join(led, "brightness")); now != last {
				changes, last = changes+1, now
			}
		}
		if changes < 18 || changes > 22 {
			t.Errorf("%d changes in 2 s: that is not hasty", changes)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if got := b.get(filepath.Join(led, "trigger")); got != "heartbeat" {
		t.Errorf("the light is left to %q", got)
	}
	if !strings.Contains(b.fat(StatusName), "data partition is missing") {
		t.Errorf("%s", b.fat(StatusName))
	}
}
