package config

import (
	"bytes"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzParse reads any text: no panic, every reading ends, and a problem names
// a line of the text.
func FuzzParse(f *testing.F) {
	f.Add("domains = [\"a.example\"]\n[c2s]\nkeepalive = \"1m\"\nstanza = \"256KiB\"\nstanza_rate = 5\n[s2s]\nenabled = false")
	f.Add("[[s2s.route]]\ndomain = '''a'''\n\"address\" = \"\"\"b\"\"\"\"\n[a.\"b.c\"]\nx = [{y = 1}, [2, '#']] # z")
	f.Add("a = \"unfinished")
	f.Add("[log]\nlevel = loud\n[[log]]")
	f.Fuzz(func(t *testing.T, text string) {
		lines := bytes.Count([]byte(text), []byte("\n")) + 1
		_, problems := Parse("p", text, testTime())
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines {
				t.Errorf("line %d of %d: %v", p.Line, lines, p)
			}
		}
		if meta, err := toml.Decode(text, &map[string]any{}); err == nil && len(meta.Keys()) == 0 && len(problems) > 0 {
			t.Errorf("nothing in it, but %v", problems)
		}
		positions(text)
	})
}
