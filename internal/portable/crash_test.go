package portable_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
)

// Whenever the power goes during an import, the account is not there afterwards, or it is whole; nothing else is left, and the import can be done again.
func TestPowerCut(t *testing.T) {
	here := newHome(t, t.TempDir())
	defer here.close()
	life := lives(juliet).Example(11)
	here.write(juliet, life)
	here.update(func(tx *store.Tx) { // more than one transaction holds
		for i := range 40 {
			store.ImportLog(tx, &store.Entry{
				At:     life.Acc.Created,
				Owners: []store.Owner{{Account: juliet.String(), With: "nurse@capulet.example", Role: store.Archived}},
				Stanza: fmt.Appendf(nil, "<message id='%d' from='nurse@capulet.example/x' to='juliet@capulet.example'><body>%s</body></message>", i, bytes.Repeat([]byte("x"), 20_000)),
			})
		}
	})
	file, _ := here.export(juliet)

	cuts, want := cutsOf(t, file)
	whole := 0
	for name, raw := range cuts {
		if len(raw) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "pibox.db"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			h := newHome(t, dir)
			defer h.close()
			h.tidy(t)
			if h.Router.Exists(juliet) {
				whole++
				if fmt.Sprint(h.read(juliet)) != fmt.Sprint(want) {
					t.Error("the account exists, and is not whole")
				}
				return
			}
			if l := h.read(juliet); len(l.Log)+len(l.Roster)+len(l.Pending)+len(l.Nodes)+len(l.Private)+len(l.Blocks) > 0 {
				t.Errorf("of an account that is not there is left: %+v", l)
			}
			if r, err := h.load(bytes.NewReader(file), nil); err != nil || r[0].Refused != nil {
				t.Fatalf("%v %+v", err, r)
			}
			if fmt.Sprint(h.read(juliet)) != fmt.Sprint(want) {
				t.Error("the second import is another one")
			}
		})
	}
	if whole == 0 || whole == len(cuts) || len(cuts) < 12 {
		t.Errorf("%d moments, at %d the account was there", len(cuts), whole)
	}
}

// cutsOf imports a file, and gives what was on the disk at each moment, and what the account is in the end.
func cutsOf(t *testing.T, file []byte) (cuts map[string][]byte, want life) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "pibox.db")
	cuts = map[string][]byte{}
	st, err := store.Open(path, store.Options{Reserve: 1, OnStep: func(s store.Step) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		cuts[fmt.Sprintf("%d %s", len(cuts), s)] = raw
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.DataDir = dir
	b, err := box.New(st, cfg, []string{"capulet.example"}, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	there := &home{b, t, path}
	if _, err := there.load(bytes.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	want = there.read(juliet)
	there.close()
	return cuts, want
}
