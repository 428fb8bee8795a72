package moved

import (
	"cmp"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// passOutside is the old home's part for who goes to another server: it adds late contacts, puts the new address of a contact who moves away, too, in
// the place of his old one, and tells those, in a message, who only see the owner. It does the first of that which is due.
func (m *Moved) passOutside(tx *store.Tx, out *xmpp.Out, job store.MoveJob) (did string, next time.Time, err error) {
	if time.Now().Before(job.Announced) {
		return "", job.Announced, nil
	}
	if did, err = m.late(tx, job); err != nil || did != "" {
		return did, next, err
	}
	old, new, err := addresses(job)
	if err != nil {
		return "", next, err
	}
	for key, c := range store.MoveContacts.All(tx, job.New) {
		who, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(job.New, "")))
		if err != nil {
			return "", next, err
		}
		to, at, moves := m.movesToo(tx, old, who, c)
		switch {
		case moves && time.Now().Before(at):
			next = sooner(next, at)
		case moves && m.successor(tx, job, who, to):
			m.join(tx, old, to)
			return who.String(), next, nil
		case !learns(tx, job, c):
		case who.Local == "" || who == new || m.blocked(tx, old, who):
			if c.Step == store.StepWaiting && !c.Ask {
				c.Step, c.Since, c.Failure = store.StepKept, time.Now().UTC(), "blocked, or no person: not told"
				store.MoveContacts.Put(tx, key, c)
				return who.String(), next, nil
			}
		default:
			return who.String(), next, m.tellByOld(tx, out, job, new, who)
		}
	}
	if next.IsZero() {
		finish(tx, job)
	}
	return "", next, nil
}

// learns tells whether a contact is still to be told by the address that he knows, whatever he is asked from the new one.
func learns(tx *store.Tx, job store.MoveJob, c store.MoveContact) bool {
	if c.Sub != store.SubFrom || c.Told || c.Step != store.StepWaiting && c.Step != store.StepToTell && c.Step != store.StepAsked {
		return false
	}
	acc, ok := store.Accounts.Get(tx, cmp.Or(c.Claim, job.Old))
	return ok && acc.Closed == nil
}

// movesToo tells where a contact of this box moves, as his own statement says, and since when that is served. Who refused is not asked there, either.
func (m *Moved) movesToo(tx *store.Tx, old, who xmpp.JID, c store.MoveContact) (to xmpp.JID, at time.Time, ok bool) {
	mv, has := store.Moves.Get(tx, who.String())
	if !has || c.Address != "" || !m.r.IsLocal(who.Domain) || !(open(c.Step) || c.Step == store.StepFollowed || c.Step == store.StepKept) {
		return to, at, false
	}
	to, err := xmpp.ParseJID(mv.To)
	if err != nil || m.blocked(tx, old, who) || m.blocked(tx, old, to) || !m.isReader(tx, mv, who, old, false) {
		return to, at, false
	}
	return to, mv.Visible, true
}

// kickLeavers lets the moves to other servers go on that have an account of this box as a contact: it moves away, too.
func (m *Moved) kickLeavers(tx *store.Tx, out *xmpp.Out, account xmpp.JID) {
	for key, job := range store.MoveJobs.All(tx) {
		if job.Outside && (job.State == store.MoveRunning || job.State == store.MoveDone) && store.MoveContacts.Has(tx, store.Key(key, account.String())) {
			m.reopen(tx, out, job)
		}
	}
}
