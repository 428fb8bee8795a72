package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// fault is a change to the program's source that torture has to find. The source itself stays as it is: the compiler is given the
// changed text in its place (go build -overlay).
type fault struct {
	name, what string
	file       string
	old, new   string
	perBox     int               // rounds with one box; 0: 3, and 20 moves
	needs      func(offers) bool // what the box has to offer for it to matter; nil: nothing
	moves      bool              // moves are to find it
}

func needsArchive(o offers) bool { return o.archive }
func needsSM(o offers) bool      { return o.sm }

var faults = []fault{
	{
		name: "nosync", what: "commits are not synced",
		file: "internal/store/open.go",
		old:  "\t\tNoFreelistSync:  true,\n",
		new:  "\t\tNoFreelistSync:  true,\n\t\tNoSync:          true,\n",
	},
	{
		name: "authority", what: "the folder of the certificates is not synced",
		file: "internal/reach/reach.go",
		old:  "errors.Join(os.MkdirAll(c.Dir, 0o700), syncFolder(filepath.Dir(c.Dir)))",
		new:  "errors.Join(os.MkdirAll(c.Dir, 0o700), nil)",
		// It is to be found only until the folder has survived a cut by luck.
		perBox: 1,
	},
	{
		name: "early", what: "the committer lets replies and deliveries out before it commits",
		file: "internal/store/commit.go",
		old:  "\tif err := b.Commit(); err != nil {",
		// Stanzas alone: what the commands do they also look at, and would stumble at once.
		new: "\tfor _, op := range batch {\n\t\tif op.Size > 0 {\n\t\t\ts.release([]*Op{op})\n\t\t\top.effects, op.Done, op.Size = nil, nil, -opOverhead\n\t\t}\n\t}\n" +
			"\tif err := b.Commit(); err != nil {",
	},
	{
		name: "halves", what: "the two sides of a local subscription change in transactions of their own",
		file: "internal/xmpp/out.go",
		old:  "\tif !r.IsLocal(st.To.Domain) || o.depth >= maxDepth {",
		new:  "\tif st != nil {",
	},
	{
		name: "version", what: "a roster's version is not stored with the item",
		file: "internal/xmpp/roster/contact.go",
		old:  "\tstore.RosterV.Put(tx, account.String(), v)\n\tro.push(",
		new:  "\tro.push(",
	},
	{
		name: "message", what: "every tenth message is acknowledged and not kept",
		file: "internal/store/tx.go",
		old:  "\tt.Put(tx, SeqKey(seq, parts...), v)\n\treturn seq\n",
		new:  "\tif (t.name != \"offline\" && t.name[:3] != \"log\") || seq%10 != 7 {\n\t\tt.Put(tx, SeqKey(seq, parts...), v)\n\t}\n\treturn seq\n",
	},
	{
		name: "twice", what: "every tenth message is stored twice",
		file: "internal/store/tx.go",
		old:  "\tt.Put(tx, SeqKey(seq, parts...), v)\n\treturn seq\n",
		new: "\tt.Put(tx, SeqKey(seq, parts...), v)\n\tif more, err := b.NextSequence(); err == nil && t.name[:3] == \"log\" && seq%10 == 7 {\n" +
			"\t\tt.Put(tx, SeqKey(more, parts...), v)\n\t}\n\treturn seq\n",
		needs: needsArchive,
	},
	{
		name: "handled", what: "a stanza counts as handled before it is committed",
		file:  "internal/xmpp/receipt.go",
		old:   "rc.shares.Add(-1) == 0",
		new:   "rc.shares.Swap(-1<<20) > 0", // at the first share that is given back
		needs: needsSM,
	},
	{
		name: "outbox", what: "what leaves the box is stored in another transaction than the roster that says so",
		file: "internal/moved/outbox.go",
		old: "\tseq := o.keep(tx, st, false)\n" +
			"\tif store.Held(tx) { // the box that this one was restored from may send it, too\n\t\treturn\n\t}\n\tout.After(func() { o.first(st, seq) })\n",
		new: "\tout.After(func() {\n\t\tseq := uint64(0)\n\t\to.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {\n" +
			"\t\t\tseq = o.keep(tx, st, false)\n\t\t\treturn nil\n\t\t}, func(error) { o.first(st, seq) })\n\t})\n",
		moves: true,
	},
	{
		name: "told", what: "that a contact was told is stored in another transaction than the message",
		file: "internal/moved/tell.go",
		old:  "ToTell != was.ToTell {\n\t\tstore.MoveContacts.Put(tx, key, c)\n",
		new: "ToTell != was.ToTell {\n\t\tout.After(func() {\n\t\t\tm.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {\n" +
			"\t\t\t\tstore.MoveContacts.Put(tx, key, c)\n\t\t\t\treturn nil\n\t\t\t}, nil)\n\t\t})\n",
		moves: true,
	},
	{
		name: "import", what: "an account that is imported is there before it is whole",
		file:  "internal/store/imports.go",
		old:   "\timportMarks.Put(tx, Key(importKey, account), mark)\n",
		new:   "\timportMarks.Put(tx, Key(importKey, account), mark)\n\tAccounts.Put(tx, account, Account{Created: mark.Began})\n",
		moves: true,
	},
	{
		name: "restore", what: "the files of a restored box are not synced before they take the place of the old ones",
		file:  "internal/box/install.go",
		old:   "\t\treturn store.SyncDir(path) // of a file, too\n",
		new:   "\t\treturn nil\n",
		moves: true,
	},
}

const proveRounds = 60

// proveAll fails unless torture finds each fault; with -moves, each one that moves are to find.
func proveAll(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "pibox-torture-faults-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var missed error
	for _, f := range faults {
		if o.moves && !f.moves {
			continue
		}
		if err := f.prove(ctx, o, filepath.Join(dir, f.name)); err != nil {
			missed = errors.Join(missed, fmt.Errorf("fault %q (%s): %w", f.name, f.what, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return missed
}

func (f fault) prove(ctx context.Context, o options, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	binary, err := f.build(ctx, dir)
	if err != nil {
		return err
	}
	o.binary, o.dir, o.rounds, o.perBox, o.from, o.quiet = binary, dir, proveRounds, cmp.Or(f.perBox, 3), 0, true
	offered := offers{}
	if f.moves {
		o.moves, o.perBox = true, cmp.Or(f.perBox, 20)
		err = tortureMoves(ctx, o)
	} else {
		offered, err = torture(ctx, o)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && f.needs != nil && !f.needs(offered):
		fmt.Printf("fault %q (%s): not there to be found, as the box does not offer what it is in\n", f.name, f.what)
		return nil
	case err == nil:
		return fmt.Errorf("not found in %d rounds", proveRounds)
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	fmt.Printf("fault %q (%s): found. %s\n", f.name, f.what, first)
	return nil
}

// build makes a pibox that has the fault.
func (f fault) build(ctx context.Context, dir string) (string, error) {
	src, err := f.apply()
	if err != nil {
		return "", err
	}
	changed, overlay, binary := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "pibox")
	path, err := filepath.Abs(f.file)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(changed, []byte(src), 0o600), os.WriteFile(overlay, raw, 0o600)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", binary, "./cmd/pibox")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building it: %w: %s", err, out)
	}
	return binary, nil
}

// apply gives the changed source.
func (f fault) apply() (string, error) {
	raw, err := os.ReadFile(f.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(raw), f.old); n != 1 {
		return "", fmt.Errorf("%s holds the text to change %d times: write the fault anew", f.file, n)
	}
	return strings.Replace(string(raw), f.old, f.new, 1), nil
}
