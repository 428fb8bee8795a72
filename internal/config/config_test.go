package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testTime() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// TestExample proves that the printed default file can not drift from the
// defaults: as it is, and with every key's # taken away, it means Default().
func TestExample(t *testing.T) {
	var b bytes.Buffer
	if err := Example(&b); err != nil {
		t.Fatal(err)
	}
	active := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(b.String(), "$1")
	if n := strings.Count(active, "\n") - len(regexp.MustCompile(`(?m)^#|^$|^\[`).FindAllString(active, -1)); n < 60 {
		t.Fatalf("only %d keys are shown", n)
	}
	for name, text := range map[string]string{"as printed": b.String(), "active": active} {
		cfg, problems := Parse("pibox.toml", text, testTime())
		if len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
		if diff := cmp.Diff(Default(), cfg); diff != "" {
			t.Errorf("%s: not the default (-want +got):\n%s", name, diff)
		}
	}
}

// TestSamples proves that the shown entries of table arrays are accepted once
// the files they name exist.
func TestSamples(t *testing.T) {
	_, problems := Parse("x", "[[s2s.route]]\n"+tagOf(t, S2S{}, "Routes").Get("sample"), testTime())
	if len(problems) > 0 {
		t.Error(problems)
	}
	_, problems = Parse("x", "[[tls.certificate]]\n"+tagOf(t, TLS{}, "Certificates").Get("sample"), testTime())
	for _, p := range problems {
		if !strings.Contains(p.Text, "there is no file") {
			t.Error(p)
		}
	}
}

func tagOf(t *testing.T, v any, field string) reflect.StructTag {
	f, ok := reflect.TypeOf(v).FieldByName(field)
	if !ok {
		t.Fatal("no field", field)
	}
	return f.Tag
}

// TestTags finds keys without text, with a bad range, or of a type that the
// decoder does not know.
func TestTags(t *testing.T) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name := join(path, f.Tag.Get("toml"))
			if f.Tag.Get("toml") == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s.%s has no key or no text", path, f.Name)
			}
			switch f.Type.Kind() {
			case reflect.Struct:
				walk(name, v.Field(i))
			case reflect.Slice:
				if e := f.Type.Elem(); e.Kind() == reflect.Struct {
					walk(name, reflect.New(e).Elem())
				} else if e.Kind() != reflect.String {
					t.Errorf("%s: a list of %v", name, e)
				}
			case reflect.Int, reflect.Int64:
				r := &report{}
				decoder{report: r}.checkRange(name, v.Field(i), f.Tag)
				if f.Tag.Get("range") == "" || len(r.problems) > 0 {
					t.Errorf("%s: no range, or a default outside: %v", name, r.problems)
				}
			case reflect.String, reflect.Bool:
			default:
				t.Errorf("%s: the decoder knows no %v", name, f.Type)
			}
		}
	}
	walk("", reflect.ValueOf(Default()))
}

func TestLoadNoFile(t *testing.T) {
	env := Environment{UID: 1000, Home: "/home/romeo", Getenv: func(string) string { return "" }}
	cfg, problems := LoadIn("", env, testTime())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Default()
	want.DataDir = "/home/romeo/.local/share/pibox"
	want.Admin.Socket = "/home/romeo/.local/share/pibox/admin.sock"
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
}

func TestLoadMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	_, problems := Load(path)
	want := path + ": there is no such file; 'pibox config example' prints one to start from"
	if got := problems.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, problems = Load(filepath.Dir(path)); problems.Err() == nil {
		t.Error("a folder was accepted")
	}
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name           string
		uid            int
		home           string
		env            map[string]string
		dataDir, admin string
	}{
		{"root", 0, "/root", nil, "/var/lib/pibox", "/run/pibox/admin.sock"},
		{
			"systemd", 990, "/", map[string]string{"STATE_DIRECTORY": "/var/lib/pibox", "RUNTIME_DIRECTORY": "/run/pibox:/run/other"},
			"/var/lib/pibox", "/run/pibox/admin.sock",
		},
		{
			"a user's session", 1000, "/home/r", map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"},
			"/home/r/.local/share/pibox", "/run/user/1000/pibox/admin.sock",
		},
		{
			"XDG folders", 1000, "/home/r", map[string]string{"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "relative"},
			"/d/pibox", "/d/pibox/admin.sock",
		},
		{"no home", 990, "", nil, "/var/lib/pibox", "/var/lib/pibox/admin.sock"},
	} {
		cfg := Default()
		cfg.Resolve(Environment{tt.uid, func(k string) string { return tt.env[k] }, tt.home})
		if cfg.DataDir != tt.dataDir || cfg.Admin.Socket != tt.admin {
			t.Errorf("%s: got %s and %s, want %s and %s", tt.name, cfg.DataDir, cfg.Admin.Socket, tt.dataDir, tt.admin)
		}
	}
}

func TestDefaultFile(t *testing.T) {
	for _, tt := range []struct {
		uid    int
		env    map[string]string
		exists string
		want   string
	}{
		{0, nil, "", ""},
		{0, nil, SystemFile, SystemFile},
		{0, nil, "/home/r/.config/pibox/pibox.toml", ""},
		{1000, nil, "/home/r/.config/pibox/pibox.toml", "/home/r/.config/pibox/pibox.toml"},
		{1000, nil, SystemFile, SystemFile},
		{990, map[string]string{"CONFIGURATION_DIRECTORY": "/c"}, "/c/pibox.toml", "/c/pibox.toml"},
		{0, map[string]string{"PIBOX_CONFIG": "/p.toml"}, SystemFile, "/p.toml"},
	} {
		env := Environment{tt.uid, func(k string) string { return tt.env[k] }, "/home/r"}
		if got := DefaultFile(env, func(p string) bool { return p == tt.exists }); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestWindowsFile(t *testing.T) {
	cfg, problems := Parse("pibox.toml", "\ufeffdomains = [\"a.example\"]\r\n\r\n[log]\r\nlevel = \"warn\"\r\n", testTime())
	if len(problems) > 0 || cfg.Log.Level != "warn" || cfg.Domains[0] != "a.example" {
		t.Errorf("got %v, %v", cfg.Log.Level, problems)
	}
}

func TestFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pibox.toml")
	if err := os.WriteFile(path, bytes.Repeat([]byte("#\n"), maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems := Load(path); problems.Err() == nil {
		t.Error("accepted")
	}
}
