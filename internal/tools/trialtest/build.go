package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// change is what a build has that the sources have not.
type change struct{ file, old, new string }

// places lets a build look for the card's system in a folder, and be less patient.
func places(dir string) []change {
	return []change{
		{"internal/update/place.go", `"/usr/lib/os-release"`, fmt.Sprintf("%q", filepath.Join(dir, "os-release"))},
		{"internal/update/place.go", `"/data/update"`, fmt.Sprintf("%q", filepath.Join(dir, "update"))},
		{"internal/update/place.go", `"/run/pibox-update"`, fmt.Sprintf("%q", filepath.Join(dir, "run"))},
		{"internal/slot/system.go", `"/proc/cmdline"`, fmt.Sprintf("%q", filepath.Join(dir, "cmdline"))},
		{"internal/slot/system.go", `def(&w.Sys, "/sys")`, fmt.Sprintf("def(&w.Sys, %q)\n\tdef(&w.Root, \"179:2\")", filepath.Join(dir, "sys"))},
		{"internal/slot/system.go", `def(&w.Dev, "/dev")`, fmt.Sprintf("def(&w.Dev, %q)", filepath.Join(dir, "dev"))},
		{"internal/update/confirm.go", "HealthyFor = 2 * time.Minute", "HealthyFor = 2 * time.Second"},
		{"internal/update/confirm.go", "TrialTime = 10 * time.Minute", "TrialTime = 20 * time.Second"},
		{"internal/update/confirm.go", "askEvery  = 2 * time.Second", "askEvery  = 50 * time.Millisecond"},
	}
}

// migrates is a version of tomorrow.
func migrates() []change {
	return []change{{
		"internal/store/schema.go", "	toSchema3,\n",
		"	toSchema3,\n	func(b *bolt.Tx) error { return createTables(b, []string{\"of tomorrow\"}) },\n",
	}}
}

func build(ctx context.Context, dir, name string, changes ...change) (string, error) {
	texts := map[string]string{}
	for _, c := range changes {
		if _, ok := texts[c.file]; !ok {
			raw, err := os.ReadFile(c.file)
			if err != nil {
				return "", err
			}
			texts[c.file] = string(raw)
		}
		if n := strings.Count(texts[c.file], c.old); n != 1 {
			return "", fmt.Errorf("%s holds %q %d times: write the change anew", c.file, c.old, n)
		}
		texts[c.file] = strings.Replace(texts[c.file], c.old, c.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		path, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[path] = filepath.Join(dir, name+"-"+strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay, binary := filepath.Join(dir, name+".json"), filepath.Join(dir, name)
	if err := os.WriteFile(overlay, raw, 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-ldflags", "-X main.version="+name, "-o", binary, "./cmd/pibox")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, out)
	}
	return binary, nil
}
