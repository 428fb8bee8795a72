package moved

import (
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
	wasBoth := old.Sub == store.SubBoth
	old.Sub = store.With(old.Sub.To(), false)
	store.Pending.Delete(tx, k.key())

	if !known || item.Name != was.Name || !slices.Equal(item.Groups, was.Groups) {
		m.needs.Roster.Put(tx, out, k.account, k.new, item)
	}
	if !known {
		m.send(tx, out, k.account, k.new, "subscribed")
		m.needs.Presence.Announce(out, k.account, k.new)
	}
	m.needs.Presence.Withdraw(out, k.account, k.old)
	m.send(tx, out, k.account, k.old, "unsubscribed")
	m.needs.Roster.Put(tx, out, k.account, k.old, old)
	if wasBoth && !item.Sub.To() && !item.Ask {
		m.send(tx, out, k.account, k.new, "subscribe")
		item.Ask = true
		m.needs.Roster.Put(tx, out, k.account, k.new, item)
	}
	m.joinOwnMove(tx, k)
	m.needs.Inbox.Queue(tx, out, k.account, m.noticeFollowed(k, item.Name))
	return nil
}

// send gives a subscription stanza to the outbox: it reaches the other server even if this box loses power now. A local recipient gets it in
// this transaction.
func (m *Moved) send(tx *store.Tx, out *xmpp.Out, from, to xmpp.JID, typ string) {
	st := xmpp.Make(xmpp.NewXML("presence").Attr("type", typ).Attr("from", from.String()).Attr("to", to.String()).Bytes())
	m.outbox.Send(tx, out, st)
}
