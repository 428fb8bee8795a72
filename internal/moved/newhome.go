package moved

import (
	"errors"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// The new home sends the notifications from the new account: docs/moved.md, "The new home". A move is a job in the store. What it does with one
// contact is one transaction (tell.go); what follows is found out from the roster (progress.go).

// StartOptions say how a job is started.
type StartOptions struct {
	// Unverified starts it although it is not known that the old home, which is elsewhere, serves the statement.
	Unverified bool
	// ThenClose closes the old account, which lives here, as soon as it has forwarded for long enough.
	ThenClose bool
}

// Move moves an account of this box to another address of it: it announces the move, makes the new account where there is none, with the same
// password, and starts the job. Repeated it changes nothing. ErrBusy, ErrNotReady and ErrHeld are for the person.
func (m *Moved) Move(old, new xmpp.JID, opt StartOptions) error {
	return m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		announced, _ := store.Moves.Get(tx, old.String())
		if !ok || job.Old != old.String() || job.State == store.MoveUndone || (job.State == store.MoveDone && announced.To != new.String()) {
			var err error
			if job, err = m.planLocal(tx, old, new, "", nil); err != nil {
				return err
			}
		}
		return m.begin(tx, out, job, opt)
	})
}

// StartJob starts a job that was planned, or goes on with one that was cancelled.
func (m *Moved) StartJob(new xmpp.JID, opt StartOptions) error {
	return m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		if !ok {
			return refuse(ErrNoJob, "no move to %s is planned", new)
		}
		return m.begin(tx, out, job, opt)
	})
}

// planLocal plans the move of an account of this box with its contacts as they are now. members are the new addresses of those who move along.
func (m *Moved) planLocal(tx *store.Tx, old, new xmpp.JID, family string, members map[xmpp.JID]xmpp.JID) (job store.MoveJob, err error) {
	acc, ok := store.Accounts.Get(tx, old.String())
	switch {
	case !ok:
		return job, refuse(ErrNotReady, "there is no account %s", old)
	case acc.Closed != nil:
		return job, refuse(ErrNotReady, "%s is closed: it has no contacts any more that could be told", old)
	case !m.r.IsLocal(new.Domain):
		return job, refuse(ErrNotReady, "%s is not a domain of this box", new.Domain)
	}
	if acc, ok := store.Accounts.Get(tx, new.String()); ok && acc.Closed != nil {
		return job, refuse(ErrNotReady, "%s is closed, and its name stays with its former owner", new)
	}
	if mv, ok := store.Moves.Get(tx, new.String()); ok {
		return job, refuse(ErrNotReady, "%s announced that it moves to %s itself", new, mv.To)
	}
	if err := planJob(tx, store.MoveJob{Old: old.String(), New: new.String(), Family: family}); err != nil {
		return job, err
	}
	for contact, c := range snapshot(tx, old) {
		who, err := xmpp.ParseJID(contact)
		if err != nil {
			return job, err
		}
		if member, ok := members[who]; ok {
			c.Member = member.String()
		} else if !m.r.IsLocal(who.Domain) { // who moves within the box, for himself, follows as anybody does
			c.Member = memberOf(tx, new, who)
		}
		store.MoveContacts.Put(tx, store.Key(new.String(), who.String()), c)
	}
	job, _ = store.MoveJobs.Get(tx, new.String())
	return job, nil
}

// snapshot is an account's roster with the requests that wait there.
func snapshot(tx *store.Tx, account xmpp.JID) map[string]store.MoveContact {
	all := map[string]store.MoveContact{}
	for contact, item := range contacts(tx, account) {
		all[contact] = store.MoveContact{Sub: item.Sub, Ask: item.Ask, Approved: item.Approved, Name: item.Name, Groups: item.Groups}
	}
	for key, p := range store.Pending.All(tx, account.String()) {
		if _, contact, ok := strings.Cut(key, "\x00"); ok && !p.Verifying {
			c := all[contact]
			c.Pending = p.Stanza
			all[contact] = c
		}
	}
	return all
}

// begin starts a job within a transaction. The announcement comes first: nobody is told what can not be verified.
func (m *Moved) begin(tx *store.Tx, out *xmpp.Out, job store.MoveJob, opt StartOptions) error {
	switch {
	case store.Held(tx):
		return refuse(ErrHeld, "this box was restored from a backup: nothing moves before its owner confirms that the old one is gone")
	case job.State == store.MoveRunning || job.State == store.MoveDone: // a repeat asks nobody anew
		return nil
	case job.State == store.MoveUndone:
		return refuse(ErrNoJob, "the move of %s to %s is over", job.Old, job.New)
	}
	old, new, err := addresses(job)
	if err != nil {
		return err
	}
	if !job.Outside {
		if err := m.prepareNew(tx, out, old, new); err != nil {
			return err
		}
	}
	switch {
	case m.r.IsLocal(old.Domain):
		if job.Announced, err = m.announce(tx, out, old, new); err != nil {
			return err
		}
	case job.Announced.IsZero() && !opt.Unverified && !job.Unverified:
		return refuse(ErrUnverified, "%s does not announce that it moves to %s, as far as %s may see", old, new, new)
	}
	job.Unverified = job.Unverified || (opt.Unverified && job.Announced.IsZero())
	job.ThenClose = job.ThenClose || opt.ThenClose
	if job.State == store.MovePlanned {
		if job, err = m.adopt(tx, out, job); err != nil {
			return err
		}
		job.Started = time.Now().UTC()
	}
	if job.State == store.MoveCancelled {
		askAgain(tx, job)
	}
	job.State, job.Ended = store.MoveRunning, time.Time{}
	store.MoveJobs.Put(tx, job.New, job)
	out.After(func() { m.kick(new) })
	m.kickMembers(tx, out, job)
	if job.ThenClose {
		out.After(func() { go m.closeDue() })
	}
	return nil
}

// askAgain lets those be asked whose servers were not known to have the request when the job was cancelled.
func askAgain(tx *store.Tx, job store.MoveJob) {
	for key, c := range store.MoveContacts.All(tx, job.New) {
		if c.Unsure && c.Step == store.StepAsked {
			c.Unsure, c.Unsent, c.Step, c.Since = false, false, store.StepWaiting, time.Now().UTC()
			store.MoveContacts.Put(tx, key, c)
		}
	}
}

// prepareNew makes the new account where there is none.
func (m *Moved) prepareNew(tx *store.Tx, out *xmpp.Out, old, new xmpp.JID) error {
	if store.Accounts.Has(tx, new.String()) {
		return nil
	}
	if !m.r.IsLocal(old.Domain) {
		return refuse(ErrNotReady, "there is no account %s yet: make it first", new)
	}
	return m.needs.Accounts.Copy(tx, out, old, new)
}

func addresses(job store.MoveJob) (old, new xmpp.JID, err error) {
	if old, err = xmpp.ParseJID(job.Old); err == nil {
		new, err = xmpp.ParseJID(job.New)
	}
	return old, new, err
}

// announce publishes the statement of an account of this box, as its own client would, and tells since when it is served.
func (m *Moved) announce(tx *store.Tx, out *xmpp.Out, old, to xmpp.JID) (since time.Time, err error) {
	mv, ok := store.Moves.Get(tx, old.String())
	if ok && mv.To != to.String() {
		return since, refuse(ErrNotReady, "%s announced that it moves to %s: that has to be taken back first", old, mv.To)
	}
	if !ok {
		if acc, ok := store.Accounts.Get(tx, old.String()); !ok || acc.Closed != nil {
			return since, refuse(ErrNotReady, "there is no account %s any more", old)
		}
		if err := m.declare(tx, out, old, to); err != nil {
			return since, err
		}
		mv, _ = store.Moves.Get(tx, old.String())
	}
	return mv.Visible.UTC(), nil
}

// declare writes where an account moved, and the item that says so. Who publishes so is the box's administrator, so a restricted account may move.
func (m *Moved) declare(tx *store.Tx, out *xmpp.Out, account, to xmpp.JID) error {
	m.forwards(tx, out, account, to)
	if mv, _ := store.Moves.Get(tx, account.String()); mv.Closed {
		return nil // its answer is the record
	}
	payload, err := frame.Parse(xmpp.NewXMLNS("moved", NS).Leaf("new-jid", "", to.String()).Bytes(), xmpp.NSClient, frame.Limits{})
	if err != nil {
		return err
	}
	return m.needs.Events.PublishFor(tx, out, account, NS, "current", payload.Node())
}

// Verify asks the old home of a planned job for its statement, from the new address, and notes where it proves the move. done gets whether it does;
// it must not block.
func (m *Moved) Verify(new xmpp.JID, done func(proven bool, err error)) {
	var old xmpp.JID
	err := m.r.Store.View(func(tx *store.Tx) (err error) {
		job, ok := store.MoveJobs.Get(tx, new.String())
		if !ok {
			return refuse(ErrNoJob, "no move to %s is planned", new)
		}
		old, _, err = addresses(job)
		return err
	})
	if err != nil {
		done(false, err)
		return
	}
	k := claimKey{account: new, old: old, new: new}
	m.r.Ask(m.question(k, func(reply *xmpp.Request) {
		switch {
		case m.proves(k, reply):
		case reply == nil, reply.Peer == nil && !m.r.IsLocal(old.Domain):
			done(false, refuse(ErrNotAsked, "%s could not be asked whether it announces the move: %s", old, unreachable(old.Domain, reply)))
			return
		default:
			done(false, nil)
			return
		}
		m.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {
			return SetAnnounced(tx, new, time.Now())
		}, func(err error) { done(err == nil, err) })
	}))
}

// jobFrom is the job of an account that moves away.
func jobFrom(tx *store.Tx, old string) (store.MoveJob, bool) {
	for _, job := range store.MoveJobs.All(tx) {
		if job.Old == old && job.State != store.MoveUndone {
			return job, true
		}
	}
	return store.MoveJob{}, false
}

// Resume goes on with what a restored box held back; see store.Held.
func (m *Moved) Resume() error {
	return errors.Join(m.outbox.start(), m.startJobs())
}
