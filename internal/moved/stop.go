package moved

import (
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Cancelled tells what Cancel or Undo did with the contacts of a job.
type Cancelled struct {
	Old      string   // address
	Followed []string // they hold the new address: that stays
	Asked    []string // Cancel: they were asked already, and may still answer
	Stopped  []string // Cancel: nothing reached them. Undo: what they were asked was taken back
	// Statement tells what became of the old home's: "retracted"; "stays" where Cancel leaves it, "elsewhere" where it has to be retracted there.
	Statement string
	// There, of an undone move to another server: contacts whom the new account may have on its list, and have asked. No session of the old home can
	// take that back.
	There []string
}

// Cancel stops a job: nobody else is told, and what other servers are not known to have is not sent again. Who has it may still answer. The job can be
// started again.
func (m *Moved) Cancel(new xmpp.JID) (did Cancelled, err error) {
	err = m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		did = Cancelled{Old: job.Old, Statement: "stays"}
		switch {
		case !ok:
			return refuse(ErrNoJob, "there is no move to %s", new)
		case job.State == store.MovePlanned:
			store.MoveJobs.Delete(tx, job.New)
			store.MoveContacts.Clear(tx, job.New)
			return nil
		case job.State != store.MoveRunning:
			return refuse(ErrNoJob, "the move of %s to %s does not run: it is %s", job.Old, job.New, job.State)
		}
		waiting := m.outbox.waiting(tx, job.New)
		return eachContact(tx, job.New, func(who xmpp.JID, c store.MoveContact) {
			_, unsent := waiting[who.String()]
			switch {
			case c.Step == store.StepFollowed:
				did.Followed = append(did.Followed, who.String())
			case c.Step == store.StepAsked && !unsent, c.Step == store.StepTold:
				did.Asked = append(did.Asked, who.String())
			case c.Step == store.StepAsked:
				c.Unsure, c.Unsent = true, m.outbox.dropRequest(tx, job.New, who.String())
				store.MoveContacts.Put(tx, store.Key(job.New, who.String()), c)
				did.Stopped = append(did.Stopped, who.String())
			case open(c.Step):
				did.Stopped = append(did.Stopped, who.String())
			}
		}, func() {
			job.State, job.Ended = store.MoveCancelled, time.Now().UTC()
			store.MoveJobs.Put(tx, job.New, job)
		})
	})
	return did, err
}

// Undo takes a move back from everybody who has not followed: requests, pre-approvals, items that the job made, and the statement of an old home
// on this box. Repeated, it tells the same and changes nothing.
func (m *Moved) Undo(new xmpp.JID) (did Cancelled, err error) {
	err = m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		did = Cancelled{Old: job.Old, Statement: "elsewhere"}
		undone := job.State == store.MoveUndone
		if !ok || job.State == store.MovePlanned {
			return refuse(ErrNoJob, "no move to %s was begun", new)
		}
		old, _, err := addresses(job)
		if err != nil {
			return err
		}
		if mv, ok := store.Moves.Get(tx, job.Old); ok && mv.Closed {
			return refuse(ErrNotReady, "%s is closed: nobody can go back to it", job.Old)
		}
		return eachContact(tx, job.New, func(who xmpp.JID, c store.MoveContact) {
			if c.Step == store.StepFollowed {
				did.Followed = append(did.Followed, who.String())
				return
			}
			if job.Outside && c.Step != store.StepWaiting && c.Step != store.StepTold {
				did.There = append(did.There, who.String())
			}
			if open(c.Step) && c.Step != store.StepWaiting && !(job.Outside && c.Step == store.StepAsked) {
				did.Stopped = append(did.Stopped, who.String())
			}
			if !undone {
				m.takeBack(tx, out, new, who, c)
			}
		}, func() {
			if undone {
				if m.r.IsLocal(old.Domain) {
					did.Statement = "retracted"
				}
				return
			}
			job.State, job.Ended = store.MoveUndone, time.Now().UTC()
			store.MoveJobs.Put(tx, job.New, job)
			if mv, ok := store.Moves.Get(tx, job.Old); ok && mv.To == job.New {
				m.needs.Events.RetractFor(tx, out, old, NS, "current") // which calls Retract
				did.Statement = "retracted"
			}
			m.pointBack(tx, out, job)
		})
	})
	return did, err
}

// takeBack leaves of a contact only what was there before the job.
func (m *Moved) takeBack(tx *store.Tx, out *xmpp.Out, new, who xmpp.JID, c store.MoveContact) {
	if c.Carried {
		c.Carried = false // what is taken back is no denial
		store.MoveContacts.Put(tx, store.Key(new.String(), who.String()), c)
		if p, ok := store.Pending.Get(tx, store.Key(new.String(), who.String())); ok && !p.Verifying {
			m.needs.Roster.Forget(tx, out, new, who)
		}
	}
	m.withdraw(tx, out, new, who, c)
	if item, ok := m.needs.Roster.Item(tx, new, who); ok && c.Made && item.Sub == store.SubNone && !item.Ask {
		m.needs.Roster.Remove(tx, out, new, who)
	}
}

// pointBack undoes what adopt did to the statements of earlier addresses.
func (m *Moved) pointBack(tx *store.Tx, out *xmpp.Out, job store.MoveJob) {
	old, err := xmpp.ParseJID(job.Old)
	for _, via := range job.Via {
		a, bad := xmpp.ParseJID(via)
		if mv, ok := store.Moves.Get(tx, via); err != nil || bad != nil || !ok || mv.To != job.New {
			continue
		}
		if err := m.declare(tx, out, a, old); err != nil {
			m.opt.Log.Error("moved: a statement could not be pointed back", "error", err)
		}
	}
}

// eachContact visits the contacts of a job; writes to them go through f, and then, at last, end.
func eachContact(tx *store.Tx, new string, f func(who xmpp.JID, c store.MoveContact), end func()) error {
	prefix := store.Key(new, "")
	for key, c := range store.MoveContacts.All(tx, new) {
		who, err := xmpp.ParseJID(strings.TrimPrefix(key, prefix))
		if err != nil {
			return err
		}
		f(who, c)
	}
	end()
	return nil
}

// AccountRemoved is told that an account goes, in that transaction: where it was moving away, nobody can verify that any more. Its new address on this
// box keeps its messages.
func (m *Moved) AccountRemoved(tx *store.Tx, account xmpp.JID) {
	m.rest(tx, account)
	m.strayed(tx, account.String(), "")
}

// strayed cancels the job of an account whose owner took the announcement back, or announced another address.
func (m *Moved) strayed(tx *store.Tx, account, to string) {
	for key, job := range store.MoveJobs.All(tx) {
		if job.Old == account && job.New != to && job.State == store.MoveRunning {
			job.State, job.Ended = store.MoveCancelled, time.Now().UTC()
			store.MoveJobs.Put(tx, key, job)
		}
	}
}

// closeDue closes the old accounts that are to be closed when they have forwarded for long enough, now and every hour.
func (m *Moved) closeDue() {
	var due []xmpp.JID
	more := false
	if err := m.r.Store.View(func(tx *store.Tx) error {
		for _, job := range store.MoveJobs.All(tx) {
			mv, ok := store.Moves.Get(tx, job.Old)
			if !job.ThenClose || !ok || mv.Closed || mv.To != job.New || (job.State != store.MoveRunning && job.State != store.MoveDone) {
				continue
			}
			if j, err := xmpp.ParseJID(job.Old); err == nil && !time.Now().Before(mv.Published.Add(m.opt.Forwarding)) && !store.Held(tx) {
				due = append(due, j)
			}
			more = true
		}
		return nil
	}); err != nil {
		m.opt.Log.Error("moved: what is to be closed", "error", err)
	}
	for _, j := range due {
		if err := m.opt.Close(j); err != nil {
			m.opt.Log.Error("moved: closing an account that moved", "error", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !more || m.stopped {
		return
	}
	if m.closing != nil {
		m.closing.Stop()
	}
	m.closing = time.AfterFunc(time.Hour, m.closeDue)
}
