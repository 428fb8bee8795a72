package portable_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var juliet = xmpp.MustJID("juliet@capulet.example")

// export gives accounts as one file, and what was lost.
func (h *home) export(accounts ...xmpp.JID) ([]byte, []portable.LossCount) {
	h.t.Helper()
	var b bytes.Buffer
	w := portable.NewWriter(&b)
	var losses portable.Losses
	for _, j := range accounts {
		if err := h.Exporter().Account(h.t.Context(), j, counting{w, &losses}); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	return b.Bytes(), losses.List()
}

type counting struct {
	*portable.Writer
	losses *portable.Losses
}

func (c counting) Unknown(l portable.Loss) error {
	c.losses.Add(l)
	return nil
}

// load imports a file.
func (h *home) load(src io.Reader, change func(*portable.ImportOptions)) ([]portable.Result, error) {
	h.t.Helper()
	im := h.Importer(context.Background(), change)
	err := (&portable.Reader{}).Read(context.Background(), src, im)
	if closeErr := im.Close(); closeErr != nil {
		h.t.Error(closeErr)
	}
	return im.Results(), err
}

// Import after export is the identity.
func TestIdentity(t *testing.T) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(t.TempDir(), fmt.Sprint(n))
		defer func() { _ = os.RemoveAll(dir) }()
		here, there := newHome(t, filepath.Join(dir, "here")), newHome(t, filepath.Join(dir, "there"))
		defer here.close()
		defer there.close()
		here.write(juliet, lives(juliet).Draw(rt, "life"))
		before := here.read(juliet)
		file, lost := here.export(juliet)
		if len(lost) > 0 {
			rt.Fatalf("the export loses %v", lost)
		}
		results, err := there.load(bytes.NewReader(file), nil)
		if err != nil {
			rt.Fatalf("%v\n%s", err, file)
		}
		if len(results) != 1 || results[0].Refused != nil || len(results[0].Losses) > 0 {
			rt.Fatalf("%+v\n%s", results, file)
		}
		if diff := cmp.Diff(before, there.read(juliet)); diff != "" {
			rt.Fatalf("%s\n%s", diff, file)
		}
		if !there.Router.Exists(juliet) {
			rt.Fatal("the account does not exist")
		}
		there.tidy(rt)
	})
}

// tidy tells that nothing of an import is left that belongs to no account.
func (h *home) tidy(t interface{ Fatalf(string, ...any) }) {
	h.update(func(tx *store.Tx) {
		if left := store.DropImports(tx); len(left) > 0 {
			t.Fatalf("%v are still being imported", left)
		}
		for key := range store.Settings.All(tx) {
			if len(key) > 6 && key[:6] == "import" {
				t.Fatalf("%q is left over", key)
			}
		}
	})
}

// Several accounts, in files that include each other.
func TestFolderIdentity(t *testing.T) {
	here := newHome(t, t.TempDir(), "capulet.example", "montague.example")
	defer here.close()
	odd := xmpp.JID{Local: strings.Repeat("ö", 400), Domain: "montague.example"}
	all := []xmpp.JID{juliet, xmpp.MustJID("nurse@capulet.example"), xmpp.MustJID("mercutio@montague.example"), odd}
	for i, j := range all {
		here.write(j, lives(j).Example(i))
	}
	file, _ := here.export(all...)
	dir := t.TempDir()
	if err := portable.Split(t.Context(), bytes.NewReader(file), "accounts.xml", func(name string) (io.WriteCloser, error) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"accounts.xml", "capulet.example.xml", "capulet.example/juliet.xml", "montague.example/mercutio.xml"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	there := newHome(t, t.TempDir(), "capulet.example", "montague.example")
	defer there.close()
	folder, f, err := portable.OpenFolder(filepath.Join(dir, "accounts.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var one bytes.Buffer
	if err := portable.Flatten(t.Context(), f, "accounts.xml", folder.Open, &one); err != nil {
		t.Fatal(err)
	}
	results, err := there.load(&one, nil)
	if err != nil || len(results) != len(all) {
		t.Fatalf("%v, %+v", err, results)
	}
	for _, j := range all {
		if diff := cmp.Diff(here.read(j), there.read(j)); diff != "" {
			t.Errorf("%s: %s", j, diff)
		}
	}
	folder, f, err = portable.OpenFolder(filepath.Join(dir, "accounts.xml"))
	if err != nil {
		t.Fatal(err)
	}
	third := newHome(t, t.TempDir(), "capulet.example", "montague.example")
	defer third.close()
	im := third.Importer(t.Context(), nil)
	if err := (&portable.Reader{Include: folder.Open, Name: "accounts.xml"}).Read(t.Context(), f, im); err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		if diff := cmp.Diff(here.read(j), third.read(j)); diff != "" {
			t.Errorf("read from the folder, %s: %s", j, diff)
		}
	}
}
