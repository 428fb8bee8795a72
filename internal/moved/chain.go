package moved

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// adopt takes over what an earlier move to the address that moves now (A→B, of B→C) left undone: contacts that hold A are told with the claim of A,
// whose statement names C from now on where A is still the owner's.
func (m *Moved) adopt(tx *store.Tx, out *xmpp.Out, job store.MoveJob) (store.MoveJob, error) {
	old, new, err := addresses(job)
	if err != nil {
		return job, err
	}
	for account, mv := range store.Moves.All(tx) {
		a, err := xmpp.ParseJID(account)
		if err != nil || mv.To != job.Old || a == old || !m.r.IsLocal(a.Domain) {
			continue
		}
		if err := m.declare(tx, out, a, new); err != nil {
			return job, err
		}
		if !slices.Contains(job.Via, account) {
			job.Via = append(job.Via, account)
		}
	}
	before, ok := store.MoveJobs.Get(tx, job.Old)
	if !ok || before.State == store.MovePlanned || before.State == store.MoveUndone || before.Outside {
		return job, nil
	}
	for _, a := range append(slices.Clone(before.Via), before.Old) {
		if !slices.Contains(job.Via, a) {
			job.Via = append(job.Via, a)
		}
	}
	prefix := store.Key(job.Old, "")
	for key, c := range store.MoveContacts.All(tx, job.Old) {
		if !open(c.Step) {
			continue
		}
		who, err := xmpp.ParseJID(strings.TrimPrefix(key, prefix))
		if err != nil {
			return job, err
		}
		next, stays := m.handedOn(tx, old, who, c)
		c.Since, c.Failure = time.Now().UTC(), ""
		if stays {
			next.Claim = cmp.Or(c.Claim, before.Old)
			m.withdraw(tx, out, old, who, c)
			store.MoveContacts.Put(tx, store.Key(job.New, who.String()), next)
			c.Failure = "told again from " + job.New
		}
		c.Step = store.StepDropped
		store.MoveContacts.Put(tx, key, c)
	}
	before.State, before.Ended = store.MoveDone, time.Now().UTC()
	store.MoveJobs.Put(tx, job.Old, before)
	return job, nil
}

// handedOn is a contact of A as B's own move takes him over; false where the owner removed him at B. What the owner decided there since stays decided:
// a request that he denied is not shown again, whom he does not want to be seen by is not let in, and names are his.
func (m *Moved) handedOn(tx *store.Tx, b, who xmpp.JID, c store.MoveContact) (next store.MoveContact, stays bool) {
	next = store.MoveContact{Sub: c.Sub, Ask: c.Ask, Name: c.Name, Groups: c.Groups, Pending: c.Pending, From: c.From, Since: time.Now().UTC()}
	item, listed := m.needs.Roster.Item(tx, b, who)
	if !listed {
		return next, c.Step == store.StepWaiting && !c.Entered
	}
	next.Name, next.Groups = item.Name, item.Groups
	if c.PreApproved && !item.Approved && !item.Sub.From() {
		next.Sub = store.With(c.Sub.To(), false)
	}
	if c.Carried {
		next.Pending = nil
		if p, ok := store.Pending.Get(tx, store.Key(b.String(), who.String())); ok && !p.Verifying {
			next.Pending = p.Stanza
		}
	}
	return next, true
}

// withdraw takes back what a contact was asked and has not answered, so that no question is left with him.
func (m *Moved) withdraw(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, c store.MoveContact) {
	item, ok := m.needs.Roster.Item(tx, account, who)
	if !ok {
		return
	}
	asked := item.Ask && c.Step == store.StepAsked
	if asked {
		item.Ask = false
	}
	if c.PreApproved {
		item.Approved = false
	}
	unsent := asked && (c.Unsent || m.outbox.dropRequest(tx, account.String(), who.String())) // before the roster's change drops it
	m.needs.Roster.Put(tx, out, account, who, item)
	if asked && !unsent {
		m.outbox.Send(tx, out, "unsubscribe", account, who)
	}
}
