// Command importrules checks who imports whom, as docs/architecture.md says:
//
//   - the core, internal/xmpp with its part frame, imports no feature;
//   - a feature, internal/xmpp/NAME or internal/moved or internal/portable,
//     imports the core, the store and plain tools (see tools), never another
//     feature;
//   - only internal/box wires features, and programs that measure them (internal/tools);
//   - internal/config and internal/admin import nothing of ours;
//   - only internal/store imports bbolt, only internal/health imports periph
//     and go-systemd, only internal/tools/powercut go-fuse;
//   - nothing imports internal/tools but programs in it.
//
// Usage: importrules < OUTPUT of 'go list -json ./...'. It exits with 1 and one
// line per breach.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	module = "pibox"
	core   = module + "/internal/xmpp"
)

// pkg is what 'go list -json' tells of a package.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func main() {
	pkgs, err := read(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "importrules:", err)
		os.Exit(2)
	}
	breaches := check(pkgs)
	for _, b := range breaches {
		fmt.Fprintln(os.Stderr, b)
	}
	if len(breaches) > 0 {
		os.Exit(1)
	}
}

func read(r io.Reader) ([]pkg, error) {
	var pkgs []pkg
	for dec := json.NewDecoder(r); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) && len(pkgs) > 0 {
			return pkgs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the list of packages: %w", err)
		}
		pkgs = append(pkgs, p)
	}
}

func check(pkgs []pkg) []string {
	var breaches []string
	for _, p := range pkgs {
		for _, imported := range p.Imports {
			if why := ours(p.ImportPath, imported); why != "" {
				breaches = append(breaches, p.ImportPath+" imports "+imported+": "+why)
			}
		}
		// Tests may look into other packages of ours, but the borders around
		// other people's libraries hold for them too.
		all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		slices.Sort(all)
		for _, imported := range slices.Compact(all) {
			if owner := libraryOwner(imported); owner != "" && p.ImportPath != owner {
				breaches = append(breaches, p.ImportPath+" imports "+imported+": only "+owner+" may")
			}
		}
	}
	return breaches
}

// ours says why a package may not import another of ours, or nothing.
func ours(from, to string) string {
	if !strings.HasPrefix(to, module+"/") {
		return ""
	}
	tools := module + "/internal/tools/"
	switch {
	case strings.HasPrefix(to, tools) && !strings.HasPrefix(from, tools):
		return "it is no part of the product"
	case from == module+"/internal/config", from == module+"/internal/admin":
		return "it is to import nothing of ours"
	case isTool(from) && !isTool(to):
		return "a plain tool imports nothing of ours but plain tools"
	case from == core && isFeature(to):
		return "the core imports no feature"
	case isFeature(from) && isFeature(to):
		return "a feature imports no other feature; state a small interface instead"
	case isFeature(from) && !isTool(to) && to != core && to != module+"/internal/store":
		return "a feature imports the core, the store and plain tools only"
	case isFeature(to) && from != module+"/internal/box" && !strings.HasPrefix(from, tools):
		return "only internal/box wires features"
	}
	return ""
}

func isFeature(path string) bool {
	return strings.HasPrefix(path, core+"/") && !isTool(path) ||
		path == module+"/internal/moved" || path == module+"/internal/portable"
}

// isTool tells whether path is one of the packages under the core that know
// nothing of the box: how bytes are cut, what XEP-0198 says, how a login is computed, how fast is
// too fast.
func isTool(path string) bool {
	return slices.Contains([]string{core + "/frame", core + "/sasl", core + "/sm", core + "/throttle"}, path)
}

// libraryOwner returns the one package that may import a library, or nothing
// for a library that all may import.
func libraryOwner(imported string) string {
	for library, owner := range map[string]string{
		"go.etcd.io/bbolt":             "store",
		"periph.io/x":                  "health",
		"github.com/coreos/go-systemd": "health",
		"github.com/hanwen/go-fuse":    "tools/powercut",
	} {
		if imported == library || strings.HasPrefix(imported, library+"/") {
			return module + "/internal/" + owner
		}
	}
	return ""
}
