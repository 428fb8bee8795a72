package moved

import (
	"cmp"
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// follow is row 8: everything that a verified move changes, in one transaction, in the order that the row gives.
func (m *Moved) follow(tx *store.Tx, out *xmpp.Out, k claimKey, known bool) error {
	old, _ := m.needs.Roster.Item(tx, k.account, k.old)
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	was := item
	item.Sub, item.Approved = store.With(item.Sub.To(), true), false
	if item.Name == "" {
		item.Name = old.Name
	}
	if len(item.Groups) == 0 {
		item.Groups = slices.Clone(old.Groups)
	}
	if known && m.needs.Roster.Fits(tx, k.account, k.new, item) != nil {
		item.Name, item.Groups = was.Name, was.Groups
	}
	wasBoth := old.Sub == store.SubBoth
	old.Sub = store.With(old.Sub.To(), false)
	store.Pending.Delete(tx, k.key())

	if !known || item.Name != was.Name || !slices.Equal(item.Groups, was.Groups) {
		m.needs.Roster.Put(tx, out, k.account, k.new, item)
	}
	if !known {
		m.outbox.Send(tx, out, "subscribed", k.account, k.new)
		m.needs.Presence.Announce(out, k.account, k.new)
	}
	m.needs.Presence.Withdraw(out, k.account, k.old)
	m.outbox.Send(tx, out, "unsubscribed", k.account, k.old)
	m.needs.Roster.Put(tx, out, k.account, k.old, old)
	if wasBoth {
		m.askBack(tx, out, k)
	}
	m.join(tx, k.account, k.new)
	m.contactMoved(tx, out, k.account, k.old, k.new, false)
	m.needs.Inbox.Queue(tx, out, k.account, m.noticeFollowed(k, item.Name))
	return nil
}

// fitsFollower tells whether the contact list has room for a new address beside the old one. Where it has none the person decides: nobody may fill it by
// moving again and again.
func (m *Moved) fitsFollower(tx *store.Tx, k claimKey, known bool) bool {
	if known {
		return true
	}
	old, _ := m.needs.Roster.Item(tx, k.account, k.old)
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	item.Sub, item.Name, item.Groups = store.With(item.Sub.To(), true), cmp.Or(item.Name, old.Name), slices.Concat(item.Groups, old.Groups)
	return m.needs.Roster.Fits(tx, k.account, k.new, item) == nil
}

// askBack asks the new address for its presence. The item is written before: a local contact answers in this transaction.
func (m *Moved) askBack(tx *store.Tx, out *xmpp.Out, k claimKey) {
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	if item.Sub.To() || item.Ask {
		return
	}
	item.Ask = true
	m.needs.Roster.Put(tx, out, k.account, k.new, item)
	m.outbox.Send(tx, out, "subscribe", k.account, k.new)
}
