package moved

import (
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// piece bounds what one transaction of a step copies, in bytes.
const piece = 128 << 10

// staysBehind tells the PEP nodes that never come along: keys belong to devices, the statement to the old address (docs/moved.md).
func staysBehind(node string) bool {
	return node == NS || strings.HasPrefix(node, "eu.siacs.conversations.axolotl") || strings.HasPrefix(node, "urn:xmpp:omemo:")
}

// copyContents is the step that brings what an account of this box holds, but its contacts, to another address of the box: block list, card, private
// XML, settings, PEP nodes. What is there already stays.
func (m *Moved) copyContents(job store.MoveJob, done func(error)) {
	old, new, err := addresses(job)
	if err != nil || !m.r.IsLocal(old.Domain) || !m.r.IsLocal(new.Domain) {
		done(err)
		return
	}
	m.r.Submit(4096, func(tx *store.Tx, out *xmpp.Out) error {
		return m.copySmall(tx, out, old, new)
	}, func(err error) {
		if err != nil {
			done(err)
			return
		}
		m.copyNodes(old, new, "", done)
	})
}

func (m *Moved) copySmall(tx *store.Tx, out *xmpp.Out, old, new xmpp.JID) error {
	var blocked []xmpp.JID
	for key := range store.Blocks.All(tx, old.String()) {
		j, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(old.String(), "")))
		if err != nil {
			return err
		}
		blocked = append(blocked, j)
	}
	m.needs.Blocks.Add(tx, out, new, blocked)
	copyOne(tx, store.VCards, old, new)
	copyOne(tx, store.ArchivePrefs, old, new)
	copyOne(tx, store.PushContents, old, new)
	for key, v := range store.Private.All(tx, old.String()) {
		if to := store.Key(new.String(), strings.TrimPrefix(key, store.Key(old.String(), ""))); !store.Private.Has(tx, to) {
			store.Private.Put(tx, to, v)
		}
	}
	return nil
}

func copyOne[T any](tx *store.Tx, t store.Table[T], old, new xmpp.JID) {
	if v, ok := t.Get(tx, old.String()); ok && !t.Has(tx, new.String()) {
		t.Put(tx, new.String(), v)
	}
}

// nodeCopied marks, in a job, a node whose items are being copied: one that is there without the mark is the new account's own.
const nodeCopied = "pep "

// copyNodes copies nodes from a key of the old account's on, a piece after the other.
func (m *Moved) copyNodes(old, new xmpp.JID, from string, done func(error)) {
	next := ""
	m.r.Submit(piece, func(tx *store.Tx, _ *xmpp.Out) error {
		next = copyPiece(tx, old, new, from)
		return nil
	}, func(err error) {
		if err != nil || next == "" {
			done(err)
			return
		}
		m.copyNodes(old, new, next, done)
	})
}

// copyPiece copies nodes and items whose keys are not below from, as many as fit; it returns the key to go on with, "" at the end.
func copyPiece(tx *store.Tx, old, new xmpp.JID, from string) (next string) {
	prefix := store.Key(old.String(), "")
	job, _ := store.MoveJobs.Get(tx, new.String())
	size := 0
	for name, node := range store.AllPEPNodes(tx, old.String()) {
		mark := nodeCopied + name
		to := store.Key(new.String(), name)
		switch {
		case staysBehind(name), prefix+name < nodeOf(from):
			continue
		case !store.PEPNodes.Has(tx, to):
			store.PEPNodes.Put(tx, to, node)
			if job.Steps == nil {
				job.Steps = map[string]time.Time{}
			}
			job.Steps[mark] = time.Now().UTC()
			store.MoveJobs.Put(tx, job.New, job)
		case job.Steps[mark].IsZero():
			continue // its own
		}
		for key, item := range store.PEPItems.From(tx, from, old.String(), name) {
			if size > piece {
				return key
			}
			if at := store.Key(new.String(), strings.TrimPrefix(key, prefix)); !store.PEPItems.Has(tx, at) {
				size += len(item.Payload) + len(at)
				store.PEPItems.Put(tx, at, item)
			}
		}
	}
	return ""
}

// nodeOf is the key of the node that an item's key belongs to.
func nodeOf(key string) string {
	parts := strings.SplitN(key, "\x00", 3)
	if len(parts) < 3 {
		return key
	}
	return parts[0] + "\x00" + parts[1]
}
