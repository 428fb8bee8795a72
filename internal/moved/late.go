package moved

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// While an old account of this box forwards, its owner may still get contacts there. They come along as the others did.

// lateContact is told of a change in the roster of an account: where that is an old one, and the job does not know of it, the job looks again.
func (m *Moved) lateContact(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, now store.RosterItem) {
	if !anySub(now.Sub) {
		return
	}
	job, ok := jobFrom(tx, account.String())
	if !ok || (job.State != store.MoveRunning && job.State != store.MoveDone) {
		return
	}
	if c, known := store.MoveContacts.Get(tx, store.Key(job.New, contact.String())); !known || grew(c, now) {
		m.reopen(tx, out, job)
	}
}

// grew tells whether a contact, who was only told or noted, lets the old address see him now.
func grew(c store.MoveContact, now store.RosterItem) bool {
	switch c.Step {
	case store.StepKept, store.StepTold, store.StepToTell:
		return now.Sub.To() && !c.Sub.To() && c.From == "" && !c.Ask
	}
	return false
}

// late adds the contacts that the old account got since, all in one transaction; any tells that the job goes on with them. An address that was only
// asked is not one yet.
func (m *Moved) late(tx *store.Tx, job store.MoveJob) (any string, err error) {
	old, new, err := addresses(job)
	if err != nil || !m.r.IsLocal(old.Domain) {
		return "", err
	}
	for contact, item := range contacts(tx, old) {
		key := store.Key(job.New, contact)
		c, known := store.MoveContacts.Get(tx, key)
		if !anySub(item.Sub) || contact == new.String() || contact == job.Old || known && !grew(c, item) {
			continue
		}
		if !known {
			c.Name, c.Groups = item.Name, item.Groups
		}
		c.Sub, c.Step, c.Since, c.Failure = item.Sub, store.StepWaiting, time.Now().UTC(), ""
		store.MoveContacts.Put(tx, key, c)
		any = "\x00" // before the first contact
	}
	return any, nil
}
