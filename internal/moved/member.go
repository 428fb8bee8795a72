package moved

import (
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// meet brings two who move in the same family move together at their new addresses: by the same rules and the same proof as everybody, but all of it
// is in the store. done is false where that does not hold; then he is told as any contact.
func (m *Moved) meet(tx *store.Tx, out *xmpp.Out, job store.MoveJob, who xmpp.JID, c store.MoveContact) (done bool, err error) {
	old, new, err := addresses(job)
	if err != nil {
		return false, err
	}
	to, err := xmpp.ParseJID(c.Member)
	if err != nil {
		return false, err
	}
	theirKey := store.Key(to.String(), old.String())
	theirs, ok := store.MoveContacts.Get(tx, theirKey)
	if !ok {
		theirs = store.MoveContact{Sub: store.SubNone}
	}
	if !m.says(tx, old, new) || !m.says(tx, who, to) || !store.Accounts.Has(tx, to.String()) {
		return false, nil
	}
	blocked := m.blocked(tx, old, who) || m.blocked(tx, who, old) || m.blocked(tx, new, to) || m.blocked(tx, to, new)
	sees := !blocked && c.Sub.To() && theirs.Sub.From()
	seen := !blocked && c.Sub.From() && theirs.Sub.To()
	m.join2(tx, out, new, to, c, sees, seen)
	if ok {
		m.join2(tx, out, to, new, theirs, seen, sees)
	}
	if sees {
		m.needs.Presence.Announce(out, to, new)
	}
	if seen {
		m.needs.Presence.Announce(out, new, to)
	}
	m.part(tx, out, old, who)
	m.part(tx, out, who, old)
	step := store.StepFollowed
	if !sees && !seen {
		step = store.StepKept
	}
	for _, r := range []struct {
		key string
		c   store.MoveContact
		ok  bool
	}{{store.Key(job.New, who.String()), c, true}, {theirKey, theirs, ok}} {
		if r.ok {
			r.c.Step, r.c.Since = step, time.Now().UTC()
			store.MoveContacts.Put(tx, r.key, r.c)
		}
	}
	if blocked {
		return true, nil
	}
	return true, m.askMember(tx, out, job, new, to, c, theirs)
}

// askMember carries over what one of the two had only asked for.
func (m *Moved) askMember(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, to xmpp.JID, c, theirs store.MoveContact) error {
	for _, q := range []struct {
		from, to xmpp.JID
		c        store.MoveContact
	}{{new, to, c}, {to, new, theirs}} {
		item, _ := m.needs.Roster.Item(tx, q.from, q.to)
		if !q.c.Ask || item.Sub.To() || item.Ask {
			continue
		}
		item.Ask = true
		m.needs.Roster.Put(tx, out, q.from, q.to, item)
		m.outbox.Send(tx, out, "subscribe", q.from, q.to)
	}
	return nil
}

// says tells whether an account's own statement names an address.
func (m *Moved) says(tx *store.Tx, account, to xmpp.JID) bool {
	mv, ok := store.Moves.Get(tx, account.String())
	return ok && mv.To == to.String() && !time.Now().Before(mv.Visible)
}

// join2 writes the item of one of the two: what is there stays.
func (m *Moved) join2(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, c store.MoveContact, sees, seen bool) {
	item, _ := m.needs.Roster.Item(tx, account, contact)
	item.Sub = store.With(item.Sub.To() || sees, item.Sub.From() || seen)
	item.Ask = item.Ask && !item.Sub.To()
	item.Approved = item.Approved && !item.Sub.From()
	if item.Name == "" {
		item.Name = c.Name
	}
	if len(item.Groups) == 0 {
		item.Groups = slices.Clone(c.Groups)
	}
	m.needs.Roster.Put(tx, out, account, contact, item)
}

// part revokes what an old address was let see (XEP-0283 §security-contact).
func (m *Moved) part(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) {
	mine, _ := m.needs.Roster.Item(tx, account, contact)
	theirs, _ := m.needs.Roster.Item(tx, contact, account)
	if !mine.Sub.From() && !theirs.Sub.To() {
		return
	}
	if mine.Sub.From() {
		m.needs.Presence.Withdraw(out, account, contact)
		mine.Sub = store.With(mine.Sub.To(), false)
		m.needs.Roster.Put(tx, out, account, contact, mine)
	}
	if theirs.Sub.To() {
		theirs.Sub = store.With(false, theirs.Sub.From())
		m.needs.Roster.Put(tx, out, contact, account, theirs)
	}
	m.ContactLeft(tx, contact, account)
}
