package box

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pibox/internal/backup"
)

// aPEM is a certificate that can be read; nobody trusts it for long.
func aPEM(t *testing.T) []byte {
	t.Helper()
	return aBoxOnce(t, t.TempDir(), nil)
}

// The names of files in a configuration that came along are those of the files that came along, however they are written there.
func TestRestoredConfigurationNamesItsFiles(t *testing.T) {
	authority := aPEM(t)
	for name, tt := range map[string]struct {
		text string
		old  []string // the paths on the box that it was taken from
		want string   // DIR is the data folder
	}{
		"absolute":         {`trust = ["/srv/family/friend.pem"]`, []string{"/srv/family/friend.pem"}, `trust = ["DIR/named/000000"]`},
		"relative":         {`trust = ["friend.pem"]`, []string{"/srv/family/friend.pem"}, `trust = ["DIR/named/000000"]`},
		"in a folder":      {`trust = ["./friends/friend.pem"]`, []string{"/srv/family/friends/friend.pem"}, `trust = ["DIR/named/000000"]`},
		"beside":           {`trust = ["../friends/friend.pem"]`, []string{"/srv/friends/friend.pem"}, `trust = ["DIR/named/000000"]`},
		"in single quotes": {`trust = ['friend.pem'] # friend.pem`, []string{"/srv/friend.pem"}, `trust = ["DIR/named/000000"] # friend.pem`},
		"several": {"trust = [\n\"a.pem\", # \"a.pem\"\n\"/srv/b.pem\", 'x/a.pem',\n]", []string{"/srv/a.pem", "/srv/b.pem", "/srv/x/a.pem"},
			"trust = [\n\"DIR/named/000000\", # \"a.pem\"\n\"DIR/named/000001\", \"DIR/named/000002\",\n]"},
		"changed since the box began": {`trust = ["b.pem"]`, []string{"/srv/a.pem", "/srv/b.pem"}, `trust = ["DIR/named/000001"]`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, u := brought(t, "[s2s]\n"+tt.text+"\n", tt.old, authority)
			got, why, err := u.settleConfig(dir, "")
			if err != nil || got != configName || why != "" {
				t.Fatalf("%q, %q, %v", got, why, err)
			}
			now, err := os.ReadFile(filepath.Join(u.dir, configName))
			if want := "[s2s]\n" + strings.ReplaceAll(tt.want, "DIR", dir) + "\n"; err != nil || string(now) != want {
				t.Errorf("%v\n%s\nwant\n%s", err, now, want)
			}
		})
	}
}

// A configuration that came along and does not count says why.
func TestRestoredConfigurationThatDoesNotCount(t *testing.T) {
	own := filepath.Join(t.TempDir(), "own.toml")
	if err := os.WriteFile(own, []byte("domains = [\"own.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, inUse, want, why string }{
		"one of its own": {"domains = [\"home.example\"]\n", own, asideName, "this box has a configuration of its own, " + own},
		"the same":       {"domains = [\"own.example\"]\n", own, "", ""},
		"a mistake":      {"domain = [\"own.example\"]\n", "", asideName, "it does not fit here: DIR/pibox.toml.restored:1: domain: unknown key; did you mean domains?"},
		"no file":        {"[s2s]\ntrust = [\"gone.pem\"]\n", "", asideName, "it does not fit here: DIR/pibox.toml.restored:2: s2s.trust[0]: there is no file DIR/gone.pem"},
		"another folder": {"data_dir = \"/srv/pibox\"\n", "", asideName, "it does not fit here: its data_dir is /srv/pibox, that of this box DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, u := brought(t, tt.text, nil, nil)
			got, why, err := u.settleConfig(dir, tt.inUse)
			if want := strings.ReplaceAll(tt.why, "DIR", dir); err != nil || got != tt.want || why != want {
				t.Errorf("%q, %v\n%q\nwant\n%q", got, err, why, want)
			}
		})
	}
}

// brought is what a backup with a configuration was unpacked into, for a data folder.
func brought(t *testing.T, text string, old []string, contents []byte) (dir string, u *unpack) {
	t.Helper()
	dir = t.TempDir()
	u = &unpack{dir: filepath.Join(dir, "restore-1", "box"), m: backup.Manifest{Files: old}}
	files := map[string][]byte{configName: []byte(text)}
	for i := range old {
		files[filepath.Join(namedFolder, fmt.Sprintf("%06d", i))] = contents
	}
	for name, data := range files {
		path := filepath.Join(u.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, u
}
