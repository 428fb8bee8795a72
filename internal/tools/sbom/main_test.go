package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const status = `Package: base-files
Status: install ok installed
Architecture: arm64
Version: 13.8+deb13u1
Description: Debian base system miscellaneous files
 Package: not-a-field

Package: gone
Status: deinstall ok config-files
Architecture: arm64
Version: 1

Package: fdisk
Status: install ok installed
Architecture: arm64
Version: 2.41-5
`

const lock = `build debian pool/main/u/u-boot/u-boot-rpi_2025.01%2bdfsg-1_arm64.deb abcd
card debian pool/main/b/base-files/base-files_13.8_arm64.deb ef01
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The test's own binary stands for pibox: it was linked by Go as well.
func TestDocument(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs{dpkg: write(t, "status", status), lock: write(t, "lock", lock), program: program, version: "1.0~rc1", created: 1_700_000_000}
	var out bytes.Buffer
	if err := run(in, &out); err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	if d.Creation.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("created %s", d.Creation.Created)
	}
	names := map[string]pkg{}
	for _, p := range d.Packages {
		if _, twice := names[p.Name]; twice {
			t.Errorf("%s is named twice", p.Name)
		}
		names[p.Name] = p
	}
	for name, version := range map[string]string{"pibox-image": "1.0~rc1", "base-files": "13.8+deb13u1", "fdisk": "2.41-5", "u-boot-rpi": "2025.01+dfsg-1"} {
		if names[name].Version != version {
			t.Errorf("%s: version %q, want %q", name, names[name].Version, version)
		}
	}
	if _, ok := names["gone"]; ok {
		t.Error("names a package that is not installed")
	}
	if names["stdlib"].Version == "" {
		t.Error("does not name Go")
	}
	if got := names["u-boot-rpi"].References[0].Locator; got != "pkg:deb/debian/u-boot-rpi@2025.01%2Bdfsg-1?arch=arm64&distro=trixie" {
		t.Errorf("purl %s", got)
	}
	if len(d.Relationships) != len(d.Packages) {
		t.Errorf("%d relationships of %d packages", len(d.Relationships), len(d.Packages))
	}
}

func TestMistakes(t *testing.T) {
	for name, text := range map[string]string{"words": "build debian x\n", "name": "build debian pool/x.deb abcd\n", "escape": "build debian pool/x_1%zz_all.deb abcd\n"} {
		if _, err := unpacked(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %q is no mistake", name, text)
		}
	}
	if _, err := installed(strings.NewReader("")); err == nil {
		t.Error("an image without packages is no mistake")
	}
}
