package moved

import (
	"errors"
	"strings"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// FamilyOptions say how a family moves.
type FamilyOptions struct {
	// Merge moves members also into accounts that are there already; else that is refused.
	Merge bool
	// ThenClose is that of StartOptions.
	ThenClose bool
}

// Member is one who moves with a family, or the reason why not.
type Member struct {
	Old, New xmpp.JID
	// Exists: there is an account at the new address already.
	Exists bool
	// Skip says why the member stays, for the person; empty where he moves.
	Skip string
}

// Family tells who moves from one domain of this box to another.
func (m *Moved) Family(tx *store.Tx, oldDomain, newDomain string) (all []Member, err error) {
	from, err1 := xmpp.ParseJID(oldDomain)
	to, err2 := xmpp.ParseJID(newDomain)
	for _, d := range []struct {
		name string
		j    xmpp.JID
		err  error
	}{{oldDomain, from, err1}, {newDomain, to, err2}} {
		if d.err != nil || d.j != d.j.Host() || !m.r.IsLocal(d.j.Domain) {
			return nil, refuse(ErrNotReady, "%s is not a domain of this box (%s)", d.name, strings.Join(m.r.Domains(), ", "))
		}
	}
	if from == to {
		return nil, refuse(ErrNotReady, "a family moves from one domain to another")
	}
	for name, acc := range store.Accounts.All(tx) {
		old, err := xmpp.ParseJID(name)
		if err != nil {
			return nil, err
		}
		if old.Domain != from.Domain {
			continue
		}
		member := Member{Old: old, New: xmpp.JID{Local: old.Local, Domain: to.Domain}}
		there, exists := store.Accounts.Get(tx, member.New.String())
		member.Exists = exists
		mv, moved := store.Moves.Get(tx, name)
		switch {
		case acc.Closed != nil:
			member.Skip = "closed"
		case moved && mv.To != member.New.String():
			member.Skip = "announced already that the account moves to " + mv.To
		case exists && there.Closed != nil:
			member.Skip = member.New.String() + " is closed, and its name stays with its former owner"
		}
		all = append(all, member)
	}
	return all, nil
}

// MoveFamily moves everybody of one domain of this box to another one, who has not moved elsewhere: all are planned, then all begin in one
// transaction, so that two who move together meet at their new addresses. Repeated it changes nothing.
func (m *Moved) MoveFamily(oldDomain, newDomain string, opt FamilyOptions) ([]Member, error) {
	var all []Member
	if err := m.r.Store.View(func(tx *store.Tx) (err error) {
		if store.Held(tx) {
			return refuse(ErrHeld, "this box was restored from a backup: nothing moves before its owner confirms that the old one is gone")
		}
		all, err = m.Family(tx, oldDomain, newDomain)
		return err
	}); err != nil {
		return nil, err
	}
	moving := map[xmpp.JID]xmpp.JID{}
	var there []string
	for _, member := range all {
		if member.Skip == "" {
			moving[member.Old] = member.New
		}
	}
	if len(moving) == 0 {
		return nil, refuse(ErrNotReady, "there is nobody at %s who could move", oldDomain)
	}
	name := ""
	for i, member := range all {
		if member.Skip != "" {
			continue
		}
		name = member.Old.Domain + " " + member.New.Domain
		exists, err := m.planMember(member, name, moving, opt.Merge)
		if err != nil {
			return nil, m.dropPlans(name, err)
		}
		if exists {
			there = append(there, all[i].New.String())
		}
	}
	if len(there) > 0 {
		return nil, m.dropPlans(name, refuse(ErrExists, "%s: there is an account already; members move into existing accounts only where that is asked for", strings.Join(there, ", ")))
	}
	return all, m.r.Update(func(tx *store.Tx, out *xmpp.Out) error {
		for key, job := range store.MoveJobs.All(tx) {
			new, ok := moving[xmpp.MustJID(job.Old)]
			if !ok || key != new.String() || (job.State != store.MovePlanned && job.State != store.MoveCancelled) {
				continue
			}
			if err := m.begin(tx, out, job, StartOptions{ThenClose: opt.ThenClose}); err != nil {
				return err
			}
		}
		return nil
	})
}

// planMember plans one member's move in a transaction of its own. exists: there is an account at the new address, which no move made.
func (m *Moved) planMember(member Member, family string, moving map[xmpp.JID]xmpp.JID, merge bool) (exists bool, err error) {
	err = m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		job, known := store.MoveJobs.Get(tx, member.New.String())
		known = known && job.Old == member.Old.String()
		if known && (job.State == store.MoveRunning || job.State == store.MoveCancelled || job.State == store.MoveDone) {
			return nil
		}
		if exists = store.Accounts.Has(tx, member.New.String()) && !merge && !known; exists {
			return nil
		}
		_, err := m.planLocal(tx, member.Old, member.New, family, moving)
		return err
	})
	return exists, err
}

// dropPlans removes what was planned for a family whose move can not begin.
func (m *Moved) dropPlans(family string, why error) error {
	if err := m.r.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		for key, job := range store.MoveJobs.All(tx) {
			if job.Family == family && job.State == store.MovePlanned {
				store.MoveJobs.Delete(tx, key)
				store.MoveContacts.Clear(tx, key)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return why
}

// PlanFamily is Plan for everybody of a domain who can move. The members tell also who stays, and why.
func (m *Moved) PlanFamily(oldDomain, newDomain string) (plans []Plan, members []Member, err error) {
	if err := m.r.Store.View(func(tx *store.Tx) (err error) {
		members, err = m.Family(tx, oldDomain, newDomain)
		return err
	}); err != nil {
		return nil, nil, err
	}
	moving := map[xmpp.JID]xmpp.JID{}
	for _, member := range members {
		if member.Skip == "" {
			moving[member.Old] = member.New
		}
	}
	all := make([]Plan, len(members))
	errs := make([]error, len(members))
	var wait sync.WaitGroup
	for i, member := range members {
		if member.Skip == "" {
			wait.Go(func() { all[i], errs[i] = m.Plan(member.Old, member.New, moving) })
		}
	}
	wait.Wait()
	for i, member := range members {
		if member.Skip == "" {
			plans = append(plans, all[i])
		}
	}
	return plans, members, errors.Join(errs...)
}
