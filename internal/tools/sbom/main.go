// Command sbom lists what a card image is made of, as an SPDX 2.3 document in JSON on standard output: Debian's packages by the status file of
// dpkg, what was unpacked without being installed (boot firmware, u-boot, certificate authorities) by the lock file, and
// the Go modules that are in the program, by what the Go linker wrote into it.
package main

import (
	"bufio"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
)

func main() {
	var in inputs
	flag.StringVar(&in.dpkg, "dpkg", "", "`file`: dpkg's status file of the image")
	flag.StringVar(&in.lock, "lock", "image/packages.lock", "`file` of the versions that the image is built from")
	flag.StringVar(&in.program, "program", "", "`file`: the pibox in the image")
	flag.StringVar(&in.version, "version", "development", "of the image")
	flag.Int64Var(&in.created, "created", 0, "when the image was made, in `seconds` since 1970")
	flag.Parse()
	if err := run(in, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type inputs struct {
	dpkg, lock, program, version string
	created                      int64
}

func run(in inputs, w io.Writer) error {
	status, err := os.Open(in.dpkg)
	if err != nil {
		return err
	}
	defer status.Close()
	installed, err := installed(status)
	if err != nil {
		return fmt.Errorf("%s: %w", in.dpkg, err)
	}
	lock, err := os.Open(in.lock)
	if err != nil {
		return err
	}
	defer lock.Close()
	unpacked, err := unpacked(lock)
	if err != nil {
		return fmt.Errorf("%s: %w", in.lock, err)
	}
	program, err := modules(in.program)
	if err != nil {
		return fmt.Errorf("%s: %w", in.program, err)
	}
	d := newDocument(in.version, time.Unix(in.created, 0))
	for _, parts := range [][]pkg{installed, unpacked, program} {
		for _, p := range parts {
			d.add(p)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(d)
}

// installed reads dpkg's status file: paragraphs of "Field: value" lines.
func installed(r io.Reader) ([]pkg, error) {
	var all []pkg
	fields := map[string]string{}
	end := func() {
		if fields["Package"] != "" && strings.HasSuffix(fields["Status"], " installed") {
			all = append(all, debian(fields["Package"], fields["Version"], fields["Architecture"], ""))
		}
		clear(fields)
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if sc.Text() == "" {
			end()
			continue
		}
		if name, value, ok := strings.Cut(sc.Text(), ": "); ok && !strings.HasPrefix(name, " ") {
			fields[name] = value
		}
	}
	end()
	if sc.Err() == nil && len(all) == 0 {
		return nil, fmt.Errorf("names no installed package")
	}
	return all, sc.Err()
}

// unpacked reads the lock's lines "build ARCHIVE PATH SHA256"; PATH ends in NAME_VERSION_ARCH.deb.
func unpacked(r io.Reader) ([]pkg, error) {
	var all []pkg
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) == 0 || f[0] != "build" {
			continue
		}
		if len(f) != 4 {
			return nil, fmt.Errorf("not four words: %q", sc.Text())
		}
		name := strings.Split(strings.TrimSuffix(path.Base(f[2]), ".deb"), "_")
		if len(name) != 3 {
			return nil, fmt.Errorf("no name of a package: %q", f[2])
		}
		version, err := url.PathUnescape(name[1])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f[2], err)
		}
		all = append(all, debian(name[0], version, name[2], f[3]))
	}
	return all, sc.Err()
}

// modules lists the program itself and the Go modules in it, and Go, whose library is in it too.
func modules(file string) ([]pkg, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sum, err := fileSum(file)
	if err != nil {
		return nil, err
	}
	all := []pkg{
		{Name: info.Main.Path, Version: strings.Trim(info.Main.Version, "()"), Checksums: sha256Sum(sum)},
		golang("stdlib", strings.TrimPrefix(info.GoVersion, "go")),
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, golang(m.Path, m.Version))
	}
	return all, nil
}

func fileSum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
