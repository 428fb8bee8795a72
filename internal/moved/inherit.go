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

// InheritRest gives the new address what arrived at the old one since its archive came along. Whoever closes the old account calls it before.
func (m *Moved) InheritRest(old xmpp.JID) error {
	var job store.MoveJob
	for more := true; more; {
		if err := m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
			more = false
			if mv, ok := store.Moves.Get(tx, old.String()); ok {
				job, _ = store.MoveJobs.Get(tx, mv.To)
			}
			if m.inherits(tx, job, old) {
				_, more = store.InheritLog(tx, job.New, old.String(), heirPiece)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// inherits tells whether the archive of an address comes along with a job: of the old one, and of earlier ones in a chain.
func (m *Moved) inherits(tx *store.Tx, job store.MoveJob, old xmpp.JID) bool {
	new, err := xmpp.ParseJID(job.New)
	return err == nil && !job.Outside && !job.ArchiveStays && m.r.IsLocal(new.Domain) && m.r.IsLocal(old.Domain) && store.Accounts.Has(tx, job.New) &&
		job.State != store.MovePlanned && job.State != store.MoveUndone
}
