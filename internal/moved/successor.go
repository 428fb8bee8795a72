package moved

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A contact of somebody who moves may have moved himself: then he is asked at his new address, as far as that is proven.

// maxHops bounds how often one contact is followed.
const maxHops = 3

// movedHere is where a closed account of this box went, for who may know.
func (m *Moved) movedHere(tx *store.Tx, old, who xmpp.JID) (to xmpp.JID, ok bool) {
	mv, has := store.Moves.Get(tx, who.String())
	if !m.r.IsLocal(who.Domain) || !has || !mv.Closed || !m.isReader(tx, mv, who, old, false) {
		return to, false
	}
	to, err := xmpp.ParseJID(mv.To)
	return to, err == nil
}

// successor puts a contact's new address, which is proven, in the place of his old one. Who was blocked or removed, or said no, is that there, too.
// did is false where there is nothing to do.
func (m *Moved) successor(tx *store.Tx, job store.MoveJob, was, to xmpp.JID) (did bool) {
	key := store.Key(job.New, was.String())
	c, ok := store.MoveContacts.Get(tx, key)
	if !ok || to.String() == job.New || to.String() == job.Old || m.hops(tx, job, c) >= maxHops {
		return false
	}
	step, why := m.inherited(tx, job, was, c)
	if c.Address == "" { // one address for each contact
		did = true
		c.Address = to.String()
		if open(c.Step) {
			c.Step, c.Since, c.Failure = store.StepMoved, time.Now().UTC(), ""
		}
		store.MoveContacts.Put(tx, key, c)
	}
	next := store.Key(job.New, to.String())
	if c.Address != to.String() || store.MoveContacts.Has(tx, next) {
		return did
	}
	store.MoveContacts.Put(tx, next, store.MoveContact{
		Sub: c.Sub, Ask: c.Ask, Name: c.Name, Groups: c.Groups, Claim: c.Claim, From: was.String(), Since: time.Now().UTC(), Told: c.Told,
		Step: step, Failure: why,
	})
	return true
}

// inherited is what the owner, or the contact, decided of his old address and holds for the new one.
func (m *Moved) inherited(tx *store.Tx, job store.MoveJob, was xmpp.JID, c store.MoveContact) (step store.MoveStep, why string) {
	for _, mine := range []string{job.Old, job.New} {
		if j, err := xmpp.ParseJID(mine); err == nil && m.blocked(tx, j, was) {
			return store.StepKept, "blocked, as " + was.String() + ": not told"
		}
	}
	switch c.Step {
	case store.StepDropped, store.StepRefused:
		return c.Step, "as " + was.String()
	}
	return store.StepWaiting, ""
}

func (m *Moved) hops(tx *store.Tx, job store.MoveJob, c store.MoveContact) (n int) {
	for c.From != "" && n < maxHops {
		c, _ = store.MoveContacts.Get(tx, store.Key(job.New, c.From))
		n++
	}
	return n
}

// contactMoved is told of a proven move of a contact of an account: the account's own move, and one to it, go on at his new address.
// closed: nobody is left at the old one who could answer.
func (m *Moved) contactMoved(tx *store.Tx, out *xmpp.Out, account, was, to xmpp.JID, closed bool) {
	for _, job := range store.MoveJobs.All(tx) {
		if (job.Old != account.String() && job.New != account.String()) || job.State == store.MovePlanned || job.State == store.MoveUndone {
			continue
		}
		m.successor(tx, job, was, to)
		if closed {
			m.stopAsking(tx, out, job, was)
		}
		if c, ok := store.MoveContacts.Get(tx, store.Key(job.New, to.String())); ok && c.Step == store.StepWaiting {
			m.reopen(tx, out, job)
		}
	}
}

// stopAsking ends the request to a contact who moved.
func (m *Moved) stopAsking(tx *store.Tx, out *xmpp.Out, job store.MoveJob, who xmpp.JID) {
	c, _ := store.MoveContacts.Get(tx, store.Key(job.New, who.String()))
	new, err := xmpp.ParseJID(job.New)
	if err != nil || c.Step != store.StepMoved {
		return
	}
	if item, ok := m.needs.Roster.Item(tx, new, who); ok && item.Ask {
		item.Ask = false
		m.needs.Roster.Put(tx, out, new, who, item)
	}
}

// reopen lets a job be worked on that has something to do again.
func (m *Moved) reopen(tx *store.Tx, out *xmpp.Out, job store.MoveJob) {
	if job.State == store.MoveDone {
		job.State, job.Ended = store.MoveRunning, time.Time{}
		store.MoveJobs.Put(tx, job.New, job)
	}
	if new, err := xmpp.ParseJID(job.New); err == nil {
		out.After(func() { m.kick(new) })
	}
}
