package moved

import (
	"cmp"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// ContactState is where a contact of somebody who moves stands.
type ContactState string

// The states of a contact.
const (
	ContactWaiting     ContactState = "waiting"     // his turn comes
	ContactSending     ContactState = "sending"     // his server is not known to have the request yet
	ContactUnreachable ContactState = "unreachable" // it could not be reached for a while; it is tried again for 60 days
	ContactVerifying   ContactState = "verifying"   // he is of this box, which asks the old home
	ContactAsked       ContactState = "asked"       // his server has the request: he or it decides
	ContactTold        ContactState = "told"
	ContactToTell      ContactState = "to tell"
	ContactKept        ContactState = "kept"
	ContactFollowed    ContactState = "followed"
	ContactRefused     ContactState = "refused"
	ContactFailed      ContactState = "failed"
	ContactMoved       ContactState = "moved"
	ContactDropped     ContactState = "dropped"
)

// reachable is how long a server may take until it counts as unreachable.
const reachable = 5 * time.Minute

// ContactProgress is one contact of a job.
type ContactProgress struct {
	Address, Name string
	Was, Now      store.Subscription // in the old roster, and in the new one
	State         ContactState
	Since         time.Time
	Detail        string // for the person
}

// Progress is a job with its contacts.
type Progress struct {
	Job      store.MoveJob
	Contacts []ContactProgress
	// Of an old account on this box:
	ForwardsUntil time.Time // at least; zero where it does not forward (any more)
	Closed        bool
	Left          int // contacts that gave the old address up
	Held          bool
}

// ProgressOf tells how a job goes.
func (m *Moved) ProgressOf(tx *store.Tx, new xmpp.JID) (p Progress, err error) {
	job, ok := store.MoveJobs.Get(tx, new.String())
	if !ok {
		return p, refuse(ErrNoJob, "there is no move to %s", new)
	}
	p.Job, p.Held = job, store.Held(tx)
	if mv, ok := store.Moves.Get(tx, job.Old); ok && mv.To == job.New {
		p.Closed, p.Left = mv.Closed, len(mv.Left)
		if !mv.Closed {
			p.ForwardsUntil = mv.Published.Add(m.opt.Forwarding)
		}
	}
	outbox := m.outbox.waiting(tx, job.New)
	prefix := store.Key(job.New, "")
	for key, c := range store.MoveContacts.All(tx, job.New) {
		who, err := xmpp.ParseJID(strings.TrimPrefix(key, prefix))
		if err != nil {
			return p, err
		}
		at := who
		if member, err := xmpp.ParseJID(c.Member); err == nil && c.Member != "" && (c.Step == store.StepFollowed || c.Step == store.StepKept) {
			at = member
		}
		item, _ := m.needs.Roster.Item(tx, new, at)
		e := ContactProgress{Address: who.String(), Name: c.Name, Was: c.Sub, Now: item.Sub, State: ContactState(c.Step), Since: c.Since, Detail: c.Failure}
		m.describe(tx, job, who, c, outbox, &e)
		p.Contacts = append(p.Contacts, e)
	}
	return p, nil
}

// describe says more of what is open.
func (m *Moved) describe(tx *store.Tx, job store.MoveJob, who xmpp.JID, c store.MoveContact, outbox map[string]time.Time, e *ContactProgress) {
	switch c.Step {
	case store.StepWaiting:
		e.State = ContactWaiting
		if job.Outside {
			e.State, e.Detail = ContactToTell, "the new account, at another server, is to ask them"
			return
		}
		if until, ok := awaits(tx, job, who, c); ok {
			e.Detail = "moves along, to " + c.Member + ": waits until " + until.Format(time.RFC3339) + " for that move to begin"
			return
		}
		if at, turn := m.due(tx, job, who, c); job.State == store.MoveRunning && time.Until(at) > 0 {
			e.Detail = "waits until " + at.Format(time.RFC3339) + " for their answer to the old address"
			if turn {
				e.Detail = "waits for its turn until " + at.Format(time.RFC3339) + " at least, so that their server takes it for no flood"
			}
		}
	case store.StepAsked:
		since, unsent := outbox[who.String()]
		switch {
		case unsent && time.Since(since) > reachable:
			e.State, e.Since = ContactUnreachable, since
			e.Detail = cmp.Or(m.whyNot(job, who), who.Domain+" could not be reached") + "; it is tried again for 60 days"
		case unsent:
			e.State, e.Detail = ContactSending, m.whyNot(job, who)
		case store.Claims.Has(tx, store.Key(who.String(), job.New)):
			e.State = ContactVerifying
		case job.Outside && c.Failure != "":
		case who.Local == "":
			e.Detail = "a service: you may have to register there anew"
		default:
			e.Detail = "their server has the request; where it does not verify moves, they have to approve"
		}
		if c.ToTell {
			e.Detail = strings.TrimPrefix(e.Detail+"; ", "; ") + "they see you, too: tell them in a message from the old address"
		}
	case store.StepTold:
		e.Detail = "told in a message from the old address; whether they add the new one is up to them"
	case store.StepToTell:
		e.Detail = "they only see you: tell them in a message from the old address"
		if c.Failure != "" {
			e.Detail += "; the last one did not arrive: " + c.Failure
		}
	case store.StepMoved:
		e.Detail = "moved to " + c.Address + " themselves"
	case store.StepFollowed:
		if c.Member != "" {
			e.Detail = "as " + c.Member
		}
	}
}

// whyNot tells why a contact's server could not be reached the last time.
func (m *Moved) whyNot(job store.MoveJob, who xmpp.JID) string {
	_, from, _ := strings.Cut(job.New, "@")
	return m.outbox.whyNot(from, who.Domain)
}

// ContactsMoved gives the addresses that contacts of a job moved to, for whom the job holds only the old one.
func ContactsMoved(tx *store.Tx, new string) map[string]string {
	to := map[string]string{}
	prefix := store.Key(new, "")
	for key, c := range store.MoveContacts.All(tx, new) {
		if next := cmp.Or(c.Member, c.Address); next != "" {
			to[strings.TrimPrefix(key, prefix)] = next
		}
	}
	return to
}
