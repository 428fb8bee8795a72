package moved

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// What can be wrong with a job. The text of an error that wraps one of them is for the person who asked.
var (
	ErrBusy       = errors.New("another move is under way")
	ErrExists     = errors.New("there is an account at the new address")
	ErrNoJob      = errors.New("there is no such move")
	ErrNotReady   = errors.New("the move can not begin")
	ErrNotAsked   = errors.New("the old home could not be asked")
	ErrUnverified = errors.New("it is not known that the old address announces the move")
	ErrHeld       = errors.New("the box is held")
	ErrMessages   = errors.New("messages would be lost")
)

// refusal is one of these errors with a text of its own for the person.
type refusal struct {
	kind error
	text string
}

func (e *refusal) Error() string { return e.text }
func (e *refusal) Unwrap() error { return e.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

// PlanJob stores a job that somebody starts later (Moved.StartJob), within a transaction; its state is planned. A job for the same two addresses
// that is planned only, was undone, or is done is planned anew, without contacts; ErrBusy where one runs, and where another job
// has one of the two addresses, or brought the old one, of another server, here before (Brought).
//
// Contacts of jobs for this box who move by it, and its contacts who move by them, are members (MoveContact.Member).
func PlanJob(tx *store.Tx, job store.MoveJob) error {
	if j, _, ok := Brought(tx, job.Old, job.New); ok && j.State == store.MoveDone && !job.Outside && !store.Accounts.Has(tx, job.Old) {
		return refuse(ErrBusy, "%s was brought already, on %s, as %s", job.Old, BroughtOn(j), j.New)
	}
	if err := planJob(tx, job); err != nil || job.Outside {
		return err
	}
	return linkMember(tx, job)
}

// Brought finds the job by which an account of another server came to this box already, to another address than one; now is that at which it is
// since. What was undone, whose account was removed here, or went back there, does not count.
func Brought(tx *store.Tx, old, except string) (came store.MoveJob, now string, ok bool) {
	if j, ok := store.MoveJobs.Get(tx, except); ok && j.Old == old && j.State != store.MoveUndone {
		return came, "", false
	}
	next := map[string]string{}
	for key, j := range store.MoveJobs.All(tx) {
		if j.State != store.MoveUndone && j.State != store.MovePlanned {
			next[j.Old] = key
		}
	}
	for key, j := range store.MoveJobs.All(tx) {
		here := j.State == store.MovePlanned || store.Accounts.Has(tx, key)
		if key == except || j.Outside || j.State == store.MoveUndone || !here || j.Old != old && !slices.Contains(j.Via, old) {
			continue
		}
		now = key
		for seen := map[string]bool{}; next[now] != "" && now != old && !seen[now]; now = next[now] {
			seen[now] = true
		}
		if now != old {
			return j, now, true
		}
	}
	return came, "", false
}

// BroughtOn is the day on which a job began, in words.
func BroughtOn(job store.MoveJob) string {
	at := job.Created
	if !job.Started.IsZero() {
		at = job.Started
	}
	return at.Local().Format(time.DateOnly)
}

func planJob(tx *store.Tx, job store.MoveJob) error {
	old, okOld := bareJID(job.Old)
	new, okNew := bareJID(job.New)
	if !okOld || !okNew || old == new {
		return refuse(ErrNotReady, "a move is from one account's address to another's: %s to %s is not", job.Old, job.New)
	}
	job.Old, job.New = old.String(), new.String()
	for key, j := range store.MoveJobs.All(tx) {
		active := j.State == store.MoveRunning || j.State == store.MovePlanned || j.State == store.MoveCancelled
		same := key == job.New && j.Old == job.Old
		switch {
		case same && (j.State == store.MoveRunning || j.State == store.MoveCancelled):
			return refuse(ErrBusy, "the move of %s to %s has begun already", j.Old, j.New)
		case same || !active:
		case key == job.New || j.Old == job.Old:
			return refuse(ErrBusy, "%s is moving to %s already", j.Old, j.New)
		case key == job.Old && j.Old == job.New:
			return refuse(ErrBusy, "%s is moving to %s, the other way round", j.Old, j.New)
		}
	}
	store.MoveContacts.Clear(tx, job.New)
	job.State, job.Steps = store.MovePlanned, nil
	if job.Created.IsZero() {
		job.Created = time.Now().UTC()
	}
	store.MoveJobs.Put(tx, job.New, job)
	return nil
}

// AddContact adds a contact of the old roster to a planned job, or replaces what was known of him. Of who has no item there, but a
// request that waits, Sub is empty.
func AddContact(tx *store.Tx, new, contact xmpp.JID, c store.MoveContact) error {
	job, ok := store.MoveJobs.Get(tx, new.String())
	if !ok || job.State != store.MovePlanned {
		return refuse(ErrNoJob, "no move to %s is planned", new)
	}
	if c.Member == "" && !job.Outside {
		c.Member = memberOf(tx, new, contact.Bare())
	}
	store.MoveContacts.Put(tx, store.Key(new.String(), contact.Bare().String()), c)
	return nil
}

// SetAnnounced notes since when the old home of a job serves the statement. Whoever published it there says so.
func SetAnnounced(tx *store.Tx, new xmpp.JID, at time.Time) error {
	job, ok := store.MoveJobs.Get(tx, new.String())
	if !ok {
		return refuse(ErrNoJob, "there is no move to %s", new)
	}
	job.Announced = at.UTC()
	store.MoveJobs.Put(tx, new.String(), job)
	return nil
}
