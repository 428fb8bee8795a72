package card

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// patience is how long after a boot the network, and the daemon, may take before that is a fault.
	networkPatience = 45 * time.Second
	daemonPatience  = 4 * time.Minute
)

// view is all that a status is made of.
type view struct {
	report    Report
	running   bool // the daemon told something
	facts     []Fact
	settings  Settings
	addresses []string
	synced    bool
}

// final tells that the state is not about to change by itself: only such a one is written to the card.
func (v view) final(up time.Duration) bool {
	switch {
	case worst(v.facts) == Failing:
		return true
	case !v.running, v.report.State == "starting", v.report.State == "stopping":
		return up > daemonPatience
	}
	return up > networkPatience || len(v.addresses) > 0
}

func worst(list []Fact) string {
	is := Note
	for _, f := range list {
		if f.Severity == Failing || f.Severity == Degraded && is == Note {
			is = f.Severity
		}
	}
	return is
}

// look finds out how the box is.
func (c *Card) look(k kept) view {
	v := view{settings: k.Settings, addresses: c.Host.Addresses(), synced: isThere(c.Synced)}
	v.running = readJSON(filepath.Join(c.Daemon, ReportFile), &v.report) == nil
	_ = readJSON(filepath.Join(c.Run, bootFile), &v.facts)
	up := c.Host.Uptime()
	if len(v.addresses) == 0 && up > networkPatience {
		v.facts = append(v.facts, c.offline(k.Settings.WiFi))
	}
	if !v.running && up > daemonPatience && worst(v.facts) != Failing {
		v.facts = append(v.facts, Fact{"daemon", Failing, "the chat server does not start. Pull the plug and put it in again; if that does not help, write the card anew and restore a backup."})
	}
	if !v.synced && up > networkPatience {
		v.facts = append(v.facts, Fact{"time", Note, "no time server was reached yet: the clock may be wrong. The chat works all the same."})
	}
	return v
}

// offline says why there is no address.
func (c *Card) offline(w WiFi) Fact {
	text := "the box has no network: is the cable plugged in at both ends, and the router on?"
	if w.SSID != "" {
		text = "the box has no network: " + c.wifiWords(w)
	}
	return Fact{"network", Degraded, text}
}

// text is pibox-status.txt.
func (v view) text() string {
	var b strings.Builder
	title := "pibox, the family's chat server"
	if v.report.Family != "" {
		title = "pibox, the chat server of the family " + line(v.report.Family)
	}
	b.WriteString(title + "\n" + strings.Repeat("=", len([]rune(title))) + "\n\n")
	v.state(&b)
	v.login(&b)
	v.reach(&b)
	b.WriteString("\nSettings: " + FileName + " beside this file. Lost the administrator's password? Put an empty file named\nrecover beside it and start the box again.\n")
	return b.String()
}

func (v view) state(b *strings.Builder) {
	told := slices.Clone(v.facts)
	for _, f := range v.report.Facts {
		if f.Severity == Failing || f.Severity == Degraded {
			f.Text = line(f.Text)
			told = append(told, f)
		}
	}
	switch serious := worst(told); {
	case serious == Failing:
		b.WriteString("It does not work:\n")
	case !v.running || !v.report.Serving:
		b.WriteString("It is starting.\n")
	case serious == Degraded:
		b.WriteString("It works, but something needs attention:\n")
	default:
		b.WriteString("It works.\n")
	}
	for _, severity := range []string{Failing, Degraded, Note} {
		for _, f := range told {
			if f.Severity == severity {
				b.WriteString(wrap("- ", upperFirst(f.Text)))
			}
		}
	}
}

func (v view) login(b *strings.Builder) {
	l := v.report.Login
	if l == nil {
		return
	}
	b.WriteString("\nThe administrator logs in with an app for XMPP, such as Conversations, Dino or Monal:\n\n")
	fmt.Fprintf(b, "    address   %s\n", line(l.Address))
	if l.Given {
		fmt.Fprintf(b, "    password  the one that stood in %s\n", FileName)
		return
	}
	fmt.Fprintf(b, passwordLine+"%s\n\n", line(l.Password))
	b.WriteString("It disappears from here at the first login. Choose your own password in the app then: this one ends to work\na week later.\n")
}

const passwordLine = "    password  "

func (v view) reach(b *strings.Builder) {
	b.WriteString("\nAn app that does not find the box by itself is told in its advanced settings:\n\n")
	name := v.settings.Hostname + ".local"
	fmt.Fprintf(b, "    server    %s\n", strings.Join(append([]string{name}, v.addresses...), " or "))
	if v.report.Port != "" {
		fmt.Fprintf(b, "    port      %s\n", line(v.report.Port))
	}
	if len(v.report.Domains) > 0 {
		fmt.Fprintf(b, "    addresses end with  @%s\n", line(strings.Join(v.report.Domains, " or @")))
	}
	for i, cert := range v.report.Certificates {
		if i == 0 {
			b.WriteString("\nAn app that asks whether to trust the box shows this certificate (SHA-256):\n\n")
		}
		fmt.Fprintf(b, "    %s\n    %s\n", line(cert.Domain), line(cert.SHA256))
	}
}

func upperFirst(s string) string {
	r := []rune(s)
	if len(r) == 0 || strings.HasPrefix(s, FileName) {
		return s
	}
	return strings.ToUpper(string(r[:1])) + string(r[1:])
}

const width = 100

// wrap breaks a text at words.
func wrap(bullet, text string) string {
	var b strings.Builder
	at := bullet
	for _, word := range strings.Fields(text) {
		if len(at)+1+len(word) > width && at != strings.Repeat(" ", len(bullet)) {
			b.WriteString(strings.TrimRight(at, " ") + "\n")
			at = strings.Repeat(" ", len(bullet))
		}
		if !strings.HasSuffix(at, " ") {
			at += " "
		}
		at += word
	}
	return b.String() + at + "\n"
}
