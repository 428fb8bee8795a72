package moved

import (
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// memberWait is how long a job waits for the one of a member, which is planned, to begin. Whom it asked before, it meets all the same.
const memberWait = time.Hour

// memberOf is where a contact moves by a job for this box; empty where there is none.
func memberOf(tx *store.Tx, new, contact xmpp.JID) string {
	for key, job := range store.MoveJobs.All(tx) {
		if job.Old == contact.String() && key != new.String() && !job.Outside && job.State != store.MoveUndone {
			return key
		}
	}
	return ""
}

// linkMember tells the jobs that are there of one that is planned: their contact moves, too.
func linkMember(tx *store.Tx, job store.MoveJob) error {
	old, new, err := addresses(job)
	if err != nil {
		return err
	}
	for key, other := range store.MoveJobs.All(tx) {
		if key == new.String() || other.Outside || other.State == store.MoveUndone {
			continue
		}
		at := store.Key(key, old.Bare().String())
		if c, ok := store.MoveContacts.Get(tx, at); ok && (open(c.Step) || c.Step == store.StepRefused || c.Step == store.StepFailed) {
			c.Member = new.Bare().String()
			store.MoveContacts.Put(tx, at, c)
		}
	}
	return nil
}

// kickMembers lets the jobs go on that wait for one that begins.
func (m *Moved) kickMembers(tx *store.Tx, out *xmpp.Out, job store.MoveJob) {
	for key, other := range store.MoveJobs.All(tx) {
		c, _ := store.MoveContacts.Get(tx, store.Key(key, job.Old))
		if new, err := xmpp.ParseJID(key); err == nil && c.Member == job.New && c.Step == store.StepWaiting && other.State == store.MoveRunning {
			out.After(func() { m.kick(new) })
		}
	}
}

// awaits is until when a member's job, which has not begun, is waited for.
func awaits(tx *store.Tx, job store.MoveJob, who xmpp.JID, c store.MoveContact) (until time.Time, ok bool) {
	theirs, has := store.MoveJobs.Get(tx, c.Member)
	if c.Member == "" || !has || theirs.Old != who.String() || theirs.State != store.MovePlanned {
		return until, false
	}
	until = job.Started.Add(memberWait)
	return until, time.Now().Before(until)
}

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
	if !ok || theirs.Step == store.StepDropped { // removed there, or never a contact
		theirs, ok = store.MoveContact{Sub: store.SubNone}, false
	}
	if !m.says(tx, old, new) || !m.says(tx, who, to) || !store.Accounts.Has(tx, to.String()) {
		return false, nil
	}
	blocked := false
	for _, mine := range []xmpp.JID{old, new} { // who comes from elsewhere brought his block list along, with the old addresses
		for _, his := range []xmpp.JID{who, to} {
			blocked = blocked || m.blocked(tx, mine, his) || m.blocked(tx, his, mine)
		}
	}
	m.answered(tx, out, new, to)
	m.answered(tx, out, to, new)
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
	if m.r.IsLocal(old.Domain) && m.r.IsLocal(who.Domain) { // else it is up to the old homes
		m.part(tx, out, old, who)
		m.part(tx, out, who, old)
	}
	for _, r := range []struct {
		account, was xmpp.JID
		c            store.MoveContact
	}{{new, who, c}, {to, old, theirs}} {
		if r.c.Step != store.StepWaiting || r.c.Entered { // he was told before it was known that he comes along
			m.takeBack(tx, out, r.account, r.was, r.c)
		}
	}
	step := store.StepFollowed
	if !sees && !seen {
		step = store.StepKept
	}
	for _, r := range []struct {
		key    string
		c      store.MoveContact
		member xmpp.JID
		ok     bool
	}{{store.Key(job.New, who.String()), c, to, true}, {theirKey, theirs, new, ok}} {
		if r.ok {
			r.c.Step, r.c.Since, r.c.Failure, r.c.Member = step, time.Now().UTC(), "", r.member.String()
			r.c.Made, r.c.PreApproved, r.c.Carried = false, false, false // there is nothing of it any more
			store.MoveContacts.Put(tx, r.key, r.c)
		}
	}
	out.After(func() { m.kick(to) })
	if blocked {
		return true, nil
	}
	return true, m.askMember(tx, out, job, new, to, c, theirs)
}

// answered ends a request that one new address made to the other one's old account, before it was known that he moves along, and that was carried over
// from there: the two meet, which answers it.
func (m *Moved) answered(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) {
	key := store.Key(account.String(), contact.String())
	if c, ok := store.MoveContacts.Get(tx, key); ok && c.Pending != nil {
		c.Pending, c.Carried, c.Step, c.Since = nil, false, store.StepKept, time.Now().UTC()
		store.MoveContacts.Put(tx, key, c)
	}
	if store.Pending.Has(tx, key) {
		m.needs.Roster.Forget(tx, out, account, contact)
	}
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

// says tells whether an account's own statement names an address. Of an account elsewhere its job knows, once it has begun; where the administrator
// began it without a statement that is known, he vouches, with --unverified, for both ends: they are accounts of his box.
func (m *Moved) says(tx *store.Tx, account, to xmpp.JID) bool {
	if !m.r.IsLocal(account.Domain) {
		job, ok := store.MoveJobs.Get(tx, to.String())
		begun := job.State == store.MoveRunning || job.State == store.MoveDone
		return ok && job.Old == account.String() && !job.Outside && begun && (!job.Announced.IsZero() || job.Unverified) && !time.Now().Before(job.Announced)
	}
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
	m.ContactLeft(tx, out, contact, account)
}
