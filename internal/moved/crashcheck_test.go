package moved_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var noticeID = regexp.MustCompile(`id='(notice-[^']*)'[^>]*><body>[^<]* moved from `)

// check looks at what is stored in the end, and at all that anybody ever got.
func check(t *testing.T, s scenario, dir, when string) {
	t.Helper()
	end, err := os.ReadFile(filepath.Join(dir, "end"))
	if err != nil {
		t.Fatal(when, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(when, err)
	}
	log := string(raw)
	if want := strings.Join(s.want, "\n"); string(end) != want {
		t.Errorf("%s: stored is in the end\n%s\nexpected\n%s", when, end, want)
	}
	old, new := domain(s.old), domain(s.new)
	notices := map[string]bool{}
	told := false // somebody outside has seen an effect of row 8
	for line := range strings.Lines(log) {
		who, what, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		effect := strings.Contains(what, "type='subscribed'") && strings.Contains(what, "from='"+romeo+"'") ||
			strings.Contains(what, "type='unsubscribed'") ||
			who == romeo && strings.Contains(what, "jid='"+s.new+"'") && strings.Contains(what, "subscription='from'")
		switch {
		case who == "begins":
			// Durable, then visible: what anybody saw before the process ended is stored.
			if told && !strings.Contains(what, s.new+" from") && !strings.Contains(what, s.new+" both") {
				t.Errorf("%s: an effect was seen that was not stored:\n%s", when, log)
			}
		case who == "killed":
		case effect:
			told = true
		case who == romeo && strings.Contains(what, "type='subscribe'"):
			t.Errorf("%s: Romeo was asked:\n%s", when, what)
		case who == s.new && strings.Contains(what, "type='subscribe'"):
			t.Errorf("%s: Juliet was asked although she approved in advance:\n%s", when, what)
		}
		if m := noticeID.FindStringSubmatch(what); m != nil && who == romeo {
			notices[m[1]] = true
		}
		if strings.Contains(what, "<moved ") && who != s.old {
			t.Errorf("%s: %s got a claim: %s", when, who, what)
		}
	}
	if len(notices) != 1 {
		t.Errorf("%s: %d notices: %s", when, len(notices), log)
	}
	for _, must := range []struct{ who, what string }{
		{at(s, s.old, old), "type='unsubscribed'"},
		{at(s, s.new, new), "type='subscribed'"},
	} {
		if !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(must.who)+`: .*`+must.what).MatchString(log) && !survived(s, must.who, log) {
			t.Errorf("%s: %s never got %s:\n%s", when, must.who, must.what, log)
		}
	}
}

// survived: what a client of this box gets is an effect, lost with its connection; the stored state is what it finds when it comes back.
func survived(s scenario, who, log string) bool {
	return strings.Contains(who, "@") && strings.Contains(log, "killed: ")
}

// at is who gets what is sent to an address: its client where it lives here, else its server.
func at(s scenario, name, domain string) string {
	for _, d := range s.domains {
		if d == domain {
			return name
		}
	}
	return domain
}

func domain(name string) string { return name[strings.Index(name, "@")+1:] }
