package xmpp

import (
	"testing"

	"mellium.im/xmpp/jid"
)

func TestParseJID(t *testing.T) {
	for in, want := range map[string]string{
		"juliet@example.net":               "juliet@example.net",
		"Juliet@Example.NET/Balcony":       "juliet@example.net/Balcony",
		"example.net.":                     "example.net",
		"ΣΊΣΥΦΟΣ@example.net":              "σίσυφοσ@example.net",
		"ｊuliet@example.net":               "juliet@example.net",
		"juliet@xn--bcher-kva.example":     "juliet@bücher.example",
		"juliet@BÜCHER.example":            "juliet@bücher.example",
		"juliet@example.net/a@b/c":         "juliet@example.net/a@b/c",
		"juliet@[2001:db8::1]/x":           "juliet@[2001:db8::1]/x",
		"juliet@192.0.2.1":                 "juliet@192.0.2.1",
		"under_score@example.net/Δ":        "under_score@example.net/Δ",
		"juliet@example.net/with a space":  "juliet@example.net/with a space",
		"a.b-c@sub.example.net/Res.Ource_": "a.b-c@sub.example.net/Res.Ource_",
	} {
		j, err := ParseJID(in)
		if err != nil || j.String() != want {
			t.Errorf("%q: %q, %v; expected %q", in, j, err, want)
		}
		again, err := ParseJID(j.String())
		if err != nil || again != j {
			t.Errorf("%q is not stable: %q, %v", in, again, err)
		}
	}
	for _, in := range []string{
		"", "@", "/", "@example.net", "juliet@", "juliet@/x", "juliet@example.net/", "ju liet@example.net", "ju\"liet@example.net", "a@b@c", "juliet@exa mple.net",
		"juliet@-bad-.example", "juliet@a..b", "\xff@example.net", "juliet@example.net/\x00", "jul:iet@example.net",
	} {
		if j, err := ParseJID(in); err == nil {
			t.Errorf("%q became %q", in, j)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		entry, who string
		want       bool
	}{
		{"a@b", "a@b/x", true},
		{"a@b", "a@b", true},
		{"a@b/x", "a@b/x", true},
		{"a@b/x", "a@b/y", false},
		{"b", "a@b/x", true},
		{"b/x", "a@b/x", true},
		{"b/x", "a@b/y", false},
		{"b", "a@c.b", false},
	} {
		if got := MustJID(c.entry).Covers(MustJID(c.who)); got != c.want {
			t.Errorf("%s covers %s: %v", c.entry, c.who, got)
		}
	}
}

// The fast way must say what PRECIS and IDNA say, wherever it says anything, and what is prepared must stay as it is.
func FuzzParseJID(f *testing.F) {
	for _, s := range []string{"juliet@example.net/Balcony", "a@b", "x", "a@xn--bcher-kva.de", "A@B/C", "a@b-.c", "ß@ß/ß", "@", "a@1.2.3.4", "a@[::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if fast, ok := parsePlain(s); ok {
			slow, err := jid.Parse(s)
			if err != nil || slow.String() != fast.String() {
				t.Fatalf("%q: plain %q, prepared %q, %v", s, fast, slow, err)
			}
		}
		j, err := ParseJID(s)
		if err != nil {
			return
		}
		if again, err := ParseJID(j.String()); err != nil || again != j {
			t.Fatalf("%q became %q, which becomes %q (%v)", s, j, again, err)
		}
	})
}
