package box

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// halfInstalled is a data folder whose power was cut while a box was put in its place, after so many steps.
func halfInstalled(t *testing.T, steps int) (dir string, done bool) {
	dir = t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, where := range []string{"", installFolder + "/"} {
		put(where+StoreFile, "database"+where)
		put(where+"tls/authority.key", "key"+where)
	}
	put(installFolder+"/"+configName, "configuration")
	at := func(name string) string { return filepath.Join(dir, name) }
	all := []func() error{
		func() error { return os.Rename(at("tls"), at("tls.before-1")) },
		func() error { return os.Rename(at(installFolder+"/tls"), at("tls")) },
		func() error { return os.Rename(at(installFolder+"/"+configName), at(configName)) },
		func() error { return os.Link(at(StoreFile), at(StoreFile+".before-1")) },
		func() error { return os.Rename(at(installFolder+"/"+StoreFile), at(StoreFile)) },
		func() error { return os.Remove(at(installFolder)) },
	}
	for _, step := range all[:min(steps, len(all))] {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, steps > len(all)
}

// Wherever the power goes while a restored box takes its place, the next start finishes it, and nothing of the old one is lost.
func TestInstallGoesOn(t *testing.T) {
	for steps := 0; ; steps++ {
		dir, done := halfInstalled(t, steps)
		if done {
			break
		}
		for range 2 { // the second time there is nothing to do
			if _, err := install(dir); err != nil {
				t.Fatal(err)
			}
		}
		var have []string
		for _, name := range []string{StoreFile, "tls/authority.key", configName, StoreFile + ".before-*", "tls.before-*/authority.key", installFolder} {
			list, _ := filepath.Glob(filepath.Join(dir, name))
			for _, path := range slices.Compact(list) {
				text, _ := os.ReadFile(path)
				have = append(have, strings.TrimSuffix(string(text), "/"))
			}
		}
		slices.Sort(have)
		have = slices.Compact(have)
		want := []string{"configuration", "database", "database" + installFolder, "key", "key" + installFolder}
		if !slices.Equal(have, want) {
			t.Errorf("after %d steps: %v", steps, have)
		}
		if text, _ := os.ReadFile(filepath.Join(dir, StoreFile)); string(text) != "database"+installFolder+"/" {
			t.Errorf("after %d steps the database is %q", steps, text)
		}
	}
	if _, err := install(t.TempDir()); err != nil {
		t.Error(fmt.Errorf("with nothing to do: %w", err))
	}
}
