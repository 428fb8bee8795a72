package moved

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// heirPiece is how many messages one transaction makes part of the new account's archive: it writes some bytes for each.
const heirPiece = 1000

// inherit is the step that makes the archive of an account of this box that of its new address, too. What was stored is stored once, and keeps its
// times and its place; the ids in the new archive are others. What arrives at the old address afterwards follows when that is closed (InheritRest).
func (m *Moved) inherit(job store.MoveJob, done func(error)) {
	old, new, err := addresses(job)
	if err != nil || job.Outside || !m.r.IsLocal(old.Domain) || !m.r.IsLocal(new.Domain) {
		done(err)
		return
	}
	merges := false
	if err := m.r.Store.View(func(tx *store.Tx) error {
		merges = store.LogsMerge(tx, new.String(), old.String())
		return nil
	}); err != nil {
		done(err)
		return
	}
	if merges {
		m.inheritPiece(old, new, done)
		return
	}
	m.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {
		now, ok := store.MoveJobs.Get(tx, job.New)
		if now.ArchiveStays = true; ok {
			store.MoveJobs.Put(tx, job.New, now)
		}
		return nil
	}, done)
}

func (m *Moved) inheritPiece(old, new xmpp.JID, done func(error)) {
	more := false
	m.r.Submit(16*heirPiece, func(tx *store.Tx, _ *xmpp.Out) error {
		_, more = store.InheritLog(tx, new.String(), old.String(), heirPiece)
		return nil
	}, func(err error) {
		if err != nil || !more {
			done(err)
			return
		}
		m.inheritPiece(old, new, done)
	})
}

// InheritRest gives the new address what arrived at the old one since its archive came along. Whoever closes or removes the old account calls it before.
// Where its messages can not come along it is ErrMessages, unless drop says that they may be lost.
func (m *Moved) InheritRest(old xmpp.JID, drop bool) error {
	for more := true; more; {
		if err := m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			heir, stays := m.Heir(tx, old)
			switch {
			case heir != "":
				_, more = store.InheritLog(tx, heir, old.String(), heirPiece)
				return nil
			case stays && !drop:
				return refuse(ErrMessages, "the %d messages of %s could not come along to the new address, and would be lost", store.LogStats(tx, old.String()).Count, old)
			}
			more = false
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// rest is InheritRest in the transaction that ends an account; what came behind that is little.
func (m *Moved) rest(tx *store.Tx, old xmpp.JID) {
	for more := true; more; {
		heir, _ := m.Heir(tx, old)
		if more = false; heir != "" {
			_, more = store.InheritLog(tx, heir, old.String(), heirPiece)
		}
	}
}

// Heir is the new address, on this box, of an account that moved, where its archive comes along: of the old one of a job, and of earlier ones in a chain.
// stays tells that it moved so, but that its messages can not come along.
func (m *Moved) Heir(tx *store.Tx, old xmpp.JID) (heir string, stays bool) {
	mv, ok := store.Moves.Get(tx, old.String())
	if !ok {
		return "", false
	}
	job, _ := store.MoveJobs.Get(tx, mv.To)
	new, err := xmpp.ParseJID(job.New)
	if err != nil || job.Outside || !m.r.IsLocal(new.Domain) || !m.r.IsLocal(old.Domain) || !store.Accounts.Has(tx, job.New) ||
		job.State == store.MovePlanned || job.State == store.MoveUndone {
		return "", false
	}
	came := job.Old == old.String() && !job.Steps["archive"].IsZero()
	if job.ArchiveStays && job.Old == old.String() || !came && !store.LogsMerge(tx, job.New, old.String()) {
		return "", store.LogStats(tx, old.String()).Count > 0
	}
	return job.New, false
}
