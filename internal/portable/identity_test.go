package portable_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
