package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	pkgs, err := read(strings.NewReader(`
{"ImportPath": "pibox/cmd/pibox", "Imports": ["pibox/internal/xmpp/roster", "pibox/internal/moved", "go.etcd.io/bbolt"]}
{"ImportPath": "pibox/internal/box", "Imports": ["pibox/internal/xmpp/roster", "pibox/internal/moved", "pibox/internal/xmpp/frame"]}
{"ImportPath": "pibox/internal/xmpp", "Imports": ["fmt", "pibox/internal/store", "pibox/internal/xmpp/frame", "pibox/internal/xmpp/c2s", "pibox/internal/moved"]}
{"ImportPath": "pibox/internal/xmpp/throttle", "Imports": ["time", "pibox/internal/store"]}
{"ImportPath": "pibox/internal/xmpp/c2s", "Imports": ["pibox/internal/xmpp", "pibox/internal/xmpp/throttle"]}
{"ImportPath": "pibox/internal/xmpp/roster", "Imports": ["pibox/internal/xmpp", "pibox/internal/store", "pibox/internal/xmpp/pep", "pibox/internal/config", "mellium.im/xmpp/jid"]}
{"ImportPath": "pibox/internal/moved", "Imports": ["pibox/internal/xmpp/roster"], "TestImports": ["pibox/internal/xmpp/pep"]}
{"ImportPath": "pibox/internal/store", "Imports": ["go.etcd.io/bbolt", "go.etcd.io/bbolt/errors"]}
{"ImportPath": "pibox/internal/health", "Imports": ["periph.io/x/host/v3", "github.com/coreos/go-systemd/v22/daemon"], "XTestImports": ["go.etcd.io/bbolt"]}
{"ImportPath": "pibox/internal/config", "Imports": ["pibox/internal/store"]}
{"ImportPath": "pibox/internal/web", "Imports": ["pibox/internal/admin", "pibox/internal/xmpp/roster", "pibox/internal/tools/powercut"]}
{"ImportPath": "pibox/internal/tools/torture", "Imports": ["pibox/internal/tools/powercut", "github.com/hanwen/go-fuse/v2/fuse"]}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pibox/cmd/pibox imports pibox/internal/xmpp/roster: only internal/box wires features",
		"pibox/cmd/pibox imports pibox/internal/moved: only internal/box wires features",
		"pibox/cmd/pibox imports go.etcd.io/bbolt: only pibox/internal/store may",
		"pibox/internal/xmpp imports pibox/internal/xmpp/c2s: the core imports no feature",
		"pibox/internal/xmpp imports pibox/internal/moved: the core imports no feature",
		"pibox/internal/xmpp/throttle imports pibox/internal/store: a plain tool imports nothing of ours but plain tools",
		"pibox/internal/xmpp/roster imports pibox/internal/xmpp/pep: a feature imports no other feature; state a small interface instead",
		"pibox/internal/xmpp/roster imports pibox/internal/config: a feature imports the core, the store and plain tools only",
		"pibox/internal/moved imports pibox/internal/xmpp/roster: a feature imports no other feature; state a small interface instead",
		"pibox/internal/health imports go.etcd.io/bbolt: only pibox/internal/store may",
		"pibox/internal/config imports pibox/internal/store: it is to import nothing of ours",
		"pibox/internal/web imports pibox/internal/xmpp/roster: only internal/box wires features",
		"pibox/internal/web imports pibox/internal/tools/powercut: it is no part of the product",
		"pibox/internal/tools/torture imports github.com/hanwen/go-fuse/v2/fuse: only pibox/internal/tools/powercut may",
	}
	if diff := cmp.Diff(want, check(pkgs)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := read(strings.NewReader("")); err == nil {
		t.Error("an empty list was accepted: nothing would be checked")
	}
}
