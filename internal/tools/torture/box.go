package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/store"
)

// oldSchema is a database of the first schema: what a box brings along that was not updated for long. In it is a record of every kind, of oldDomain.
const (
	oldSchema = "internal/store/testdata/schema1.db"
	oldDomain = "capulet.example"
)

// newBox begins with nothing, or with an old database, and cuts the power while the box makes it its own.
func (r *run) newBox(ctx context.Context, rng *rand.Rand) error {
	if r.state.Model != nil {
		if err := r.lastLook(ctx, rng); err != nil {
			return err
		}
	}
	r.state.Model, r.sessions = nil, map[string]left{}
	r.state.Boxes++
	from, old, err := "", "", error(nil)
	if r.state.Boxes%2 == 0 {
		if from, old, err = r.oldBox(); err != nil {
			return err
		}
	}
	if err := r.power.fill(from); err != nil {
		return err
	}
	for range rng.IntN(5) {
		if err := r.cutStarting(rng); err != nil {
			return err
		}
	}
	if err := r.firstStart(ctx, rng); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	got, err := witness(filepath.Join(r.found(), store1))
	if err != nil {
		return err
	}
	if got != old {
		return fmt.Errorf("what was in the old database has changed: %s", differ(old, got))
	}
	return nil
}

// differ is the first line that differs.
func differ(want, got string) string {
	is := strings.Split(got, "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(is) || is[i] != line {
			return fmt.Sprintf("%q became %q", line, append(is, "", "")[min(i, len(is))])
		}
	}
	return "there is more of it"
}

// lastLook compares everything once more before a box is given up.
func (r *run) lastLook(ctx context.Context, rng *rand.Rand) error {
	if _, err := r.restart(ctx, rng, true); err != nil {
		return err
	}
	r.box.Stop()
	return r.power.off()
}

const store1 = "pibox.db"

// oldBox makes a folder with an old database, and tells what is in it when it was migrated undisturbed.
func (r *run) oldBox() (folder, content string, err error) {
	raw, err := os.ReadFile(oldSchema)
	if err != nil {
		return "", "", err
	}
	folder = filepath.Join(r.dir, "old")
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700)); err != nil {
		return "", "", err
	}
	path := filepath.Join(folder, store1)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return "", "", err
	}
	content, err = witness(path)
	return folder, content, err
}

// witness tells the records of the old domain in a database, which it does not change.
func witness(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "pibox-torture-old-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	copied := filepath.Join(dir, store1)
	if err := os.WriteFile(copied, raw, 0o600); err != nil {
		return "", err
	}
	s, err := store.Open(copied, store.Options{Reserve: 1})
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }()
	var w strings.Builder
	err = s.View(func(tx *store.Tx) error {
		records(&w, tx, store.Accounts)
		records(&w, tx, store.Roster)
		records(&w, tx, store.RosterV)
		records(&w, tx, store.Pending)
		records(&w, tx, store.Private)
		records(&w, tx, store.VCards)
		records(&w, tx, store.Blocks)
		node, _ := store.PEPNodes.Get(tx, store.Key("juliet@"+oldDomain, "urn:xmpp:moved:1"))
		item, _ := store.PEPItems.Get(tx, store.Key("juliet@"+oldDomain, "urn:xmpp:moved:1", "current"))
		fmt.Fprintf(&w, "%+v %s\n", node, item.Payload)
		for _, account := range []string{"juliet@" + oldDomain, "nurse@" + oldDomain} {
			for e := range store.LogOf(tx, store.Range{Account: account}) {
				fmt.Fprintf(&w, "log %s %v %s\n", account, e.Role, e.Stanza)
			}
		}
		return nil
	})
	return w.String(), err
}

func records[T any](w *strings.Builder, tx *store.Tx, t store.Table[T]) {
	for key, v := range t.All(tx) {
		if strings.Contains(key, oldDomain) {
			raw, _ := json.Marshal(v)
			fmt.Fprintf(w, "%q %s\n", key, raw)
		}
	}
}

// firstStart makes the accounts. What the command said is done, is done.
func (r *run) firstStart(ctx context.Context, rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.power.on(); err != nil {
		return err
	}
	if err := r.box.Start(ctx); err != nil {
		return err
	}
	for _, name := range slices.Concat(people, mailboxes, []string{visitor}) {
		if _, err := r.box.Admin().UserAdd(ctx, admin.UserAddRequest{User: name, Password: password}); err != nil {
			return err
		}
	}
	m := newModel()
	raw, err := os.ReadFile(r.box.Authority())
	if err != nil {
		return err
	}
	m.Authority = string(raw)
	if err := r.prefer(ctx); err != nil {
		return err
	}
	if err := r.power.cut(r.box, rng); err != nil {
		return err
	}
	r.state.Model = m
	return r.check("the power was cut after the first start")
}

// prefer lets the archives keep everything.
func (r *run) prefer(ctx context.Context) error {
	for _, name := range slices.Concat(people, mailboxes, []string{visitor}) {
		c, err := r.box.Login(ctx, name, password, "")
		if err != nil {
			return err
		}
		there, err := c.Offers(ctx, c.Account(), nsArchive)
		if err == nil && there {
			err = keepAll(ctx, c)
		}
		c.Close(ctx)
		if err != nil || !there {
			return err
		}
	}
	return nil
}
