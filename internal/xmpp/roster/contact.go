package roster

import (
	"slices"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// contact is the state of a contact as seen by an account (RFC 6121 Appendix A.1).
type contact struct {
	store.RosterItem
	listed  bool // there is a roster item
	pending bool // a request of the contact awaits the account's answer
	hidden  bool // that request is not shown to clients: it claims a move that is being verified
	theirs  bool // the contact made it so
}

func key(account, who xmpp.JID) string { return store.Key(account.String(), who.String()) }

func load(tx *store.Tx, account, who xmpp.JID) (c contact) {
	k := key(account, who)
	if c.RosterItem, c.listed = store.Roster.Get(tx, k); c.Removed {
		c.RosterItem, c.listed = store.RosterItem{}, false
	}
	if c.Sub == "" {
		c.Sub = store.SubNone
	}
	p, ok := store.Pending.Get(tx, k)
	c.pending, c.hidden = ok, p.Verifying
	return c
}

func (c *contact) setTo(on bool)   { c.Sub = store.With(on, c.Sub.From()) }
func (c *contact) setFrom(on bool) { c.Sub = store.With(c.Sub.To(), on) }

// sameItem tells whether a client would see no difference.
func (c *contact) sameItem(o contact) bool {
	return c.listed == o.listed && c.Name == o.Name && slices.Equal(c.Groups, o.Groups) && c.Sub == o.Sub && c.Ask == o.Ask && c.Approved == o.Approved
}

// Item reads a roster item; false where there is none, then Sub is none.
func (ro *Roster) Item(tx *store.Tx, account, who xmpp.JID) (store.RosterItem, bool) {
	c := load(tx, account, who)
	return c.RosterItem, c.listed
}

// Put writes a roster item with a new version and queues the roster push to the interested resources. An item that is already so is left
// alone. A pending request is not touched.
func (ro *Roster) Put(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, item store.RosterItem) {
	old := load(tx, account, who)
	now := old
	now.RosterItem, now.listed = item, true
	if now.Sub == "" {
		now.Sub = store.SubNone
	}
	ro.apply(tx, out, account, who, old, now)
}

// Fits tells whether Put would hold the roster to its limits.
func (ro *Roster) Fits(tx *store.Tx, account, who xmpp.JID, item store.RosterItem) error {
	old := load(tx, account, who)
	now := old
	now.RosterItem, now.listed = item, true
	return ro.room(tx, account, who, old, now)
}

// Remove removes a roster item with a push, and tells the contact what ends by it (RFC 6121 §2.5.2). A pending request is denied. Without
// an item it does nothing.
func (ro *Roster) Remove(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID) {
	old := load(tx, account, who)
	if !old.listed {
		return
	}
	ro.apply(tx, out, account, who, old, contact{RosterItem: store.RosterItem{Sub: store.SubNone}})
	ro.part(out, account, who, old, func(st *xmpp.Stanza) { ro.answer(tx, out, st, old.pending) })
}

// Forget ends a request that awaits the account's answer without telling anybody.
func (ro *Roster) Forget(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID) {
	old := load(tx, account, who)
	now := old
	now.pending, now.hidden = false, false
	ro.apply(tx, out, account, who, old, now)
}

// part tells a contact that the account has no state with him any more.
func (ro *Roster) part(out *xmpp.Out, account, who xmpp.JID, old contact, answer func(st *xmpp.Stanza)) {
	if old.Sub.From() {
		ro.presence.Withdraw(out, account, who)
	}
	if old.Sub.To() || old.Ask {
		out.Send(subscription("unsubscribe", "", account, who))
	}
	if old.Sub.From() || old.pending {
		answer(subscription("unsubscribed", "", account, who))
	}
}

// Clear removes everything of an account that goes, and tells its contacts.
func (ro *Roster) Clear(tx *store.Tx, out *xmpp.Out, account xmpp.JID) error {
	prefix := store.Key(account.String(), "")
	var known []string
	for k := range store.Roster.All(tx, account.String()) {
		known = append(known, strings.TrimPrefix(k, prefix))
	}
	for k := range store.Pending.All(tx, account.String()) {
		known = append(known, strings.TrimPrefix(k, prefix))
	}
	slices.Sort(known)
	none := contact{RosterItem: store.RosterItem{Sub: store.SubNone}}
	for _, name := range slices.Compact(known) {
		who, err := xmpp.ParseJID(name)
		if err != nil {
			return err
		}
		old := load(tx, account, who)
		store.Roster.Delete(tx, key(account, who))
		store.Pending.Delete(tx, key(account, who))
		ro.changed(tx, out, account, who, old, none)
		ro.part(out, account, who, old, out.Send)
	}
	store.RosterV.Delete(tx, account.String())
	return nil
}

// apply writes what differs between two states of a contact, queues the push, and runs the hooks.
func (ro *Roster) apply(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, old, now contact) {
	same := now.sameItem(old)
	if same && now.pending == old.pending {
		return
	}
	if old.pending && !now.pending {
		store.Pending.Delete(tx, key(account, who))
		out.After(func() { ro.unshow(account, who) })
	}
	if !same {
		ro.write(tx, out, account, who, now)
	}
	ro.changed(tx, out, account, who, old, now)
}

func (ro *Roster) changed(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, old, now contact) {
	for _, f := range ro.onChange {
		f(tx, out, Change{
			Account: account, Contact: who, Old: old.RosterItem, Now: now.RosterItem, WasPending: old.pending, Pending: now.pending, ByContact: now.theirs,
		})
	}
}

// write gives the item the next version of the roster. A removed one leaves a tombstone.
func (ro *Roster) write(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, c contact) {
	v, _ := store.RosterV.Get(tx, account.String())
	v.Version++
	item := c.RosterItem
	if item.Version = v.Version; !c.listed {
		item = store.RosterItem{Sub: store.SubNone, Version: v.Version, Removed: true}
	}
	store.Roster.Put(tx, key(account, who), item)
	if item.Removed {
		v.Floor = max(v.Floor, ro.prune(tx, account))
	}
	store.RosterV.Put(tx, account.String(), v)
	ro.push(tx, out, account, who, item)
}

// prune deletes the oldest tombstones over the limit and gives the version of the youngest of them.
func (ro *Roster) prune(tx *store.Tx, account xmpp.JID) (floor uint64) {
	type grave struct {
		key     string
		version uint64
	}
	var graves []grave
	for k, item := range store.Roster.All(tx, account.String()) {
		if item.Removed {
			graves = append(graves, grave{k, item.Version})
		}
	}
	slices.SortFunc(graves, func(a, b grave) int { return int(int64(a.version) - int64(b.version)) })
	for len(graves) > ro.opt.Tombstones {
		store.Roster.Delete(tx, graves[0].key)
		floor = graves[0].version
		graves = graves[1:]
	}
	return floor
}

// room refuses an item that is new, or longer than before, where the roster is full.
func (ro *Roster) room(tx *store.Tx, account, who xmpp.JID, old, now contact) error {
	grows := size(who.String(), now.RosterItem)
	if old.listed {
		grows -= size(who.String(), old.RosterItem)
	}
	if !now.listed || old.listed && grows <= 0 {
		return nil
	}
	items, bytes := 0, grows
	_, all := readAll(tx, account)
	for _, e := range all {
		if !e.Removed {
			items++
			bytes += size(e.who, e.RosterItem)
		}
	}
	if !old.listed && items >= ro.opt.MaxItems || bytes > ro.opt.MaxBytes {
		return xmpp.Errorf(stanza.ResourceConstraint, "the contact list is full: it holds %d contacts", items)
	}
	return nil
}

func size(who string, item store.RosterItem) int {
	n := len(who) + len(item.Name)
	for _, g := range item.Groups {
		n += len(g)
	}
	return n
}

// subscription is a subscription stanza of the box's own, between bare addresses (RFC 6121 §3).
func subscription(typ, id string, from, to xmpp.JID) *xmpp.Stanza {
	return xmpp.Make(xmpp.NewXML("presence").Attr("type", typ).Attr("id", id).Attr("from", from.String()).Attr("to", to.String()).Bytes())
}
