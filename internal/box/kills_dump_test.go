package box

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// statements are those that the boxes serve, by account and new address, with the time of their publication.
func (w *tale) statements() map[string]time.Time {
	all := map[string]time.Time{}
	for _, h := range w.houses {
		if err := h.st.View(func(tx *store.Tx) error {
			for account := range store.Moves.All(tx) {
				if it, ok := store.PEPItems.Get(tx, store.Key(account, "urn:xmpp:moved:1", "current")); ok {
					all[account+" "+string(it.Payload)] = it.At
				}
			}
			return nil
		}); err != nil {
			w.Error(err)
		}
	}
	return all
}

// dump is everything that has to be the same in the end.
func (w *tale) dump() string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, h := range w.houses {
		if err := h.st.View(func(tx *store.Tx) error {
			dumpAccounts(tx, say)
			dumpMoves(tx, say)
			return nil
		}); err != nil {
			w.Error(err)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func dumpAccounts(tx *store.Tx, say func(string, ...any)) {
	for name, acc := range store.Accounts.All(tx) {
		_, card := store.VCards.Get(tx, name)
		say("account %s closed %t card %t private %d blocks %d", name, acc.Closed != nil, card, store.Private.Count(tx, name), store.Blocks.Count(tx, name))
		for node := range store.AllPEPNodes(tx, name) {
			for key, it := range store.PEPItems.All(tx, name, node) {
				say("item %q %s", key, bytes.TrimSpace(it.Payload))
			}
		}
		for o := range store.LogOf(tx, store.Range{Account: name}) {
			el, err := frame.Parse(o.Stanza, frame.NSClient, frame.Limits{})
			if err != nil {
				say("%v", err)
				continue
			}
			from, _ := xmpp.ParseJID(el.Attr("from"))
			say("archive of %s kept %t from %s to %s: %s", name, o.Role&store.Archived != 0, from.Bare(), el.Attr("to"), el.Node().ChildText(frame.NSClient, "body"))
		}
	}
	for key, it := range store.Roster.All(tx) {
		if !it.Removed {
			say("roster %q %s ask %t approved %t name %q groups %q", key, it.Sub, it.Ask, it.Approved, it.Name, it.Groups)
		}
	}
	for key, p := range store.Pending.All(tx) {
		say("pending %q hidden %t", key, p.Verifying)
	}
}

func dumpMoves(tx *store.Tx, say func(string, ...any)) {
	for account, mv := range store.Moves.All(tx) {
		say("statement of %s: %s closed %t readers %v left %d", account, mv.To, mv.Closed, mv.Readers, len(mv.Left))
	}
	for key, j := range store.MoveJobs.All(tx) {
		say("job %s of %s via %v %s announced %t steps %d", key, j.Old, j.Via, j.State, !j.Announced.IsZero(), len(j.Steps))
	}
	for key, c := range store.MoveContacts.All(tx) {
		say("job %q was %s: %q %s made %t approved %t carried %t told %t", key, c.Sub, c.Step, c.Failure, c.Made, c.PreApproved, c.Carried, c.Told)
	}
	for key := range store.Claims.All(tx) {
		say("claim %q", key)
	}
	for _, e := range store.Outbox.All(tx) {
		say("owed %s", e.Stanza)
	}
	for _, m := range store.AllMigrating(tx) {
		say("interrupted %s of %s", m.Kind, m.Old)
	}
}
