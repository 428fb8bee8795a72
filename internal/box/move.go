package box

import (
	"context"
	"errors"
	"strings"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

// toldMove turns an error of a move into one for the person who asked.
func toldMove(err error) error {
	var refused *xmpp.StanzaError
	switch {
	case errors.Is(err, moved.ErrBusy):
		return admin.Errorf(admin.CodeExists, "%v", err).Then("'pibox move status --all' shows it.")
	case errors.Is(err, moved.ErrExists):
		return admin.Errorf(admin.CodeExists, "%v", err).Then("If they are the same people: add --merge. Their contacts there stay.")
	case errors.Is(err, moved.ErrNoJob):
		return admin.Errorf(admin.CodeNotFound, "%v", err).Then("'pibox move status --all' shows all moves.")
	case errors.Is(err, moved.ErrUnverified):
		return admin.Errorf(admin.CodeFailed, "%v: contacts' servers would not verify it, and every contact had to approve", err).
			Then("Announce the move at the old address first: 'pibox move leave' on its box does, or, in place of an import, 'pibox move bring' on this one. Or add --unverified.")
	case errors.Is(err, moved.ErrNotAsked):
		return admin.Errorf(admin.CodeFailed, "%v", err).Then("Mend that, and try again. With --unverified the move starts all the same, and every contact has to approve.")
	case errors.Is(err, moved.ErrHeld):
		return admin.Errorf(admin.CodeFailed, "%v", err).Then("'pibox restore --confirm' says so.")
	case errors.Is(err, moved.ErrMessages):
		return admin.Errorf(admin.CodeInvalid, "%v", err).Then("'pibox export' saves them in a file; then add --drop-messages.")
	case errors.Is(err, moved.ErrNotReady):
		return admin.Errorf(admin.CodeInvalid, "%v", err)
	case errors.As(err, &refused):
		return admin.Errorf(admin.CodeInvalid, "%s", refused.Text)
	case errors.Is(err, accounts.ErrClosed), errors.Is(err, accounts.ErrNone):
		return admin.Errorf(admin.CodeInvalid, "%v", err)
	}
	return told(err)
}

// anAddress reads the address of an account here or elsewhere; NAME alone is at the main domain.
func (b *Box) anAddress(name string) (xmpp.JID, error) {
	if !strings.Contains(name, "@") {
		return b.Accounts.Parse(name)
	}
	j, err := xmpp.ParseJID(name)
	if err != nil || !j.IsBare() || j.Local == "" {
		return j, admin.Errorf(admin.CodeInvalid, "%q is no account's address, such as juliet@%s", name, b.Router.Domains()[0])
	}
	return j, nil
}

// awayAddress reads the address of an account at another server: a name alone would be one of this box.
func (b *Box) awayAddress(name string) (xmpp.JID, error) {
	if !strings.Contains(name, "@") {
		return xmpp.JID{}, admin.Errorf(admin.CodeInvalid, "%q has no domain: the account's whole address at the other server is wanted", name).
			Then("Such as %s@ and the domain of that server.", name)
	}
	return b.anAddress(name)
}

func (b *Box) twoAddresses(old, new string) (o, n xmpp.JID, err error) {
	if o, err = b.anAddress(old); err == nil {
		n, err = b.anAddress(new)
	}
	if err == nil && o == n {
		err = admin.Errorf(admin.CodeInvalid, "a move is from one address to another")
	}
	return o, n, told(err)
}

// isDomain tells a domain of this box from an account's address.
func (b *Box) isDomain(name string) bool {
	j, err := xmpp.ParseJID(name)
	return err == nil && j == j.Host() && b.Router.IsLocal(j.Domain)
}

// MovePlan implements admin.API.
func (d *Daemon) MovePlan(_ context.Context, req admin.MovePlanRequest) (resp admin.MovePlanResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	resp.Plans = []admin.MovePlan{}
	if !s.box.isDomain(req.Old) && !s.box.isDomain(req.New) && !s.box.likeDomain(req.Old) {
		old, new, err := s.box.twoAddresses(req.Old, req.New)
		if err == nil && !s.box.Router.IsLocal(old.Domain) {
			err = s.box.within(old, new)
		}
		if err != nil {
			return resp, err
		}
		p, err := s.box.Moved.Plan(old, new, nil)
		one := planned(p)
		one.Outside = !s.box.Router.IsLocal(new.Domain)
		resp.Plans = append(resp.Plans, one)
		return resp, toldMove(err)
	}
	if err := s.box.ownDomains(req.Old, req.New); err != nil {
		return resp, err
	}
	plans, members, err := s.box.Moved.PlanFamily(req.Old, req.New)
	for _, p := range plans {
		resp.Plans = append(resp.Plans, planned(p))
	}
	resp.Staying = staying(members)
	return resp, toldMove(err)
}

func planned(p moved.Plan) admin.MovePlan {
	out := admin.MovePlan{Old: p.Old, New: p.New, Exists: p.Exists, Announced: p.Announced, ArchiveStays: p.ArchiveStays, Contacts: []admin.MovePlanContact{}}
	for _, c := range p.Contacts {
		out.Contacts = append(out.Contacts, admin.MovePlanContact{
			Address: c.Address, Name: c.Name, Was: string(c.Was), Prospect: string(c.Prospect), Why: c.Why, Request: c.Request,
		})
	}
	return out
}

func staying(members []moved.Member) (list []admin.MoveStaying) {
	for _, m := range members {
		if m.Skip != "" {
			list = append(list, admin.MoveStaying{Address: m.Old.String(), Why: m.Skip})
		}
	}
	return list
}

// MoveStart implements admin.API.
func (d *Daemon) MoveStart(ctx context.Context, req admin.MoveStartRequest) (resp admin.MoveStartResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	b := s.box
	old, new, err := b.twoAddresses(req.Old, req.New)
	if err != nil {
		return resp, err
	}
	if err := b.within(old, new); err != nil {
		return resp, err
	}
	before, err := b.movesBegun()
	if err != nil {
		return resp, err
	}
	opt := moved.StartOptions{Unverified: req.Unverified, ThenClose: req.ThenClose}
	if b.Router.IsLocal(old.Domain) {
		err = b.Moved.Move(old, new, opt)
	} else {
		err = b.startFromElsewhere(ctx, new, opt)
	}
	if err != nil {
		return resp, toldMove(err)
	}
	resp.Move, err = before.move(b, new)
	return resp, toldMove(err)
}

// startFromElsewhere asks the old home first, where nobody knows whether it announces the move.
func (b *Box) startFromElsewhere(ctx context.Context, new xmpp.JID, opt moved.StartOptions) error {
	err := b.Moved.StartJob(new, moved.StartOptions{})
	if !errors.Is(err, moved.ErrUnverified) {
		return err
	}
	verified := make(chan error, 1)
	b.Moved.Verify(new, func(_ bool, err error) { verified <- err })
	select {
	case err := <-verified:
		if err != nil && (!opt.Unverified || !errors.Is(err, moved.ErrNotAsked)) {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return b.Moved.StartJob(new, opt)
}

// MoveFamily implements admin.API.
func (d *Daemon) MoveFamily(_ context.Context, req admin.MoveFamilyRequest) (resp admin.MoveFamilyResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	if err := s.box.ownDomains(req.OldDomain, req.NewDomain); err != nil {
		return resp, err
	}
	before, err := s.box.movesBegun()
	if err != nil {
		return resp, err
	}
	members, err := s.box.Moved.MoveFamily(req.OldDomain, req.NewDomain, moved.FamilyOptions{Merge: req.Merge, ThenClose: req.ThenClose})
	if err != nil {
		return resp, toldMove(err)
	}
	resp.Moves, resp.Staying = []admin.Move{}, staying(members)
	for _, m := range members {
		if m.Skip != "" {
			continue
		}
		mv, err := before.move(s.box, m.New)
		if err != nil {
			return resp, toldMove(err)
		}
		resp.Moves = append(resp.Moves, mv)
	}
	return resp, nil
}

// MoveStatus implements admin.API.
func (d *Daemon) MoveStatus(_ context.Context, req admin.MoveStatusRequest) (resp admin.MoveStatusResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	all, err := s.box.jobs(req.New)
	if err != nil {
		return resp, toldMove(err)
	}
	resp.Moves = []admin.Move{}
	for _, new := range all {
		mv, err := s.box.move(new)
		if err != nil {
			return resp, toldMove(err)
		}
		resp.Moves = append(resp.Moves, mv)
	}
	return resp, nil
}

// jobs are the moves to an address, those of a family to a domain, or all.
func (b *Box) jobs(new string) (all []xmpp.JID, err error) {
	if new != "" && !b.isDomain(new) {
		j, err := b.anAddress(new)
		if err == nil {
			err = b.Store.View(func(tx *store.Tx) error {
				if !b.moves(tx, j) {
					return b.noMove(tx, new, j)
				}
				return nil
			})
		}
		return []xmpp.JID{j}, err
	}
	err = b.Store.View(func(tx *store.Tx) error {
		for key, job := range store.MoveJobs.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return err
			}
			if _, to, _ := strings.Cut(job.Family, " "); new == "" || to == new {
				all = append(all, j)
			}
		}
		for _, mark := range store.AllMigrating(tx) { // whose contacts did not come yet
			if j, err := xmpp.ParseJID(mark.New); err == nil && new == "" && !store.MoveJobs.Has(tx, mark.New) {
				all = append(all, j)
			}
		}
		return nil
	})
	if err == nil && new != "" && len(all) == 0 {
		err = admin.Errorf(admin.CodeNotFound, "no family moved to %s", new)
	}
	return all, err
}

func (b *Box) move(new xmpp.JID) (mv admin.Move, err error) {
	var p moved.Progress
	var session *admin.Migration
	if err = b.Store.View(func(tx *store.Tx) (err error) {
		session = b.session(tx, new)
		if p, err = b.Moved.ProgressOf(tx, new); errors.Is(err, moved.ErrNoJob) && session != nil {
			p, err = moved.Progress{Job: store.MoveJob{Old: session.Old, New: session.New, State: store.MovePlanned, Created: session.Began}}, nil
		}
		return err
	}); err != nil {
		return mv, err
	}
	j := p.Job
	mv = admin.Move{
		Old: j.Old, New: j.New, Via: j.Via, Family: j.Family, State: string(j.State), Held: p.Held, Announced: j.Announced, Unverified: j.Unverified,
		Outside: j.Outside, Created: j.Created, Started: j.Started, Ended: j.Ended,
		ForwardsUntil: p.ForwardsUntil, Closed: p.Closed, ThenClose: j.ThenClose, ArchiveStays: j.ArchiveStays,
		Session: session, Contacts: []admin.MoveContact{},
	}
	for _, c := range p.Contacts {
		mv.Contacts = append(mv.Contacts, admin.MoveContact{
			Address: c.Address, Name: c.Name, Was: string(c.Was), Now: string(c.Now), State: string(c.State), Since: c.Since, Detail: c.Detail,
		})
	}
	return mv, nil
}

// MoveCancel implements admin.API.
func (d *Daemon) MoveCancel(_ context.Context, req admin.MoveCancelRequest) (resp admin.MoveCancelResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	resp.Stopped, err = s.box.stopMoves(req.New, s.box.Moved.Cancel)
	return resp, err
}

// MoveUndo implements admin.API.
func (d *Daemon) MoveUndo(ctx context.Context, req admin.MoveUndoRequest) (resp admin.MoveUndoResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	if req.Password != "" {
		return s.box.undoLeave(ctx, req)
	}
	resp.Undone, err = s.box.stopMoves(req.New, s.box.Moved.Undo)
	return resp, err
}

// stopMoves stops one move, or those of a family that can be; it fails where none can.
func (b *Box) stopMoves(new string, stop func(new xmpp.JID) (moved.Cancelled, error)) ([]admin.MoveStopped, error) {
	all, err := b.jobs(new)
	if new == "" {
		err = admin.Errorf(admin.CodeInvalid, "which move? Name its new address")
	}
	if err != nil {
		return nil, toldMove(err)
	}
	list := []admin.MoveStopped{}
	for _, j := range all {
		if t := b.migrations.get(j); t != nil && !t.state().State.Over() {
			t.cancel() // it tells nobody else
		}
		did, e := stop(j)
		if e == nil || errors.Is(e, moved.ErrNoJob) {
			was, marked, failed := b.forget(j)
			if marked && e != nil { // its contacts had not come
				did, e = moved.Cancelled{Old: was.Old, Statement: "stays"}, nil
			}
			e = errors.Join(e, failed)
		}
		if e != nil {
			err = e
			continue
		}
		one := admin.MoveStopped{New: j.String(), Statement: did.Statement, Followed: []string{}, Asked: []string{}, Stopped: []string{}}
		one.Followed, one.Asked, one.Stopped = append(one.Followed, did.Followed...), append(one.Asked, did.Asked...), append(one.Stopped, did.Stopped...)
		one.Old, one.There = did.Old, did.There
		list = append(list, one)
	}
	if len(list) == 0 {
		return nil, toldMove(err)
	}
	return list, nil
}

// MoveClose implements admin.API.
func (d *Daemon) MoveClose(_ context.Context, req admin.MoveCloseRequest) (resp admin.MoveCloseResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	all, err := s.box.toClose(req)
	if err != nil {
		return resp, err
	}
	resp.Closed = []admin.MoveClosed{}
	for _, u := range all {
		j := xmpp.MustJID(u.Address)
		ended := len(s.box.Router.Sessions(j))
		if err := s.box.forward(j, req.DropMessages); err != nil {
			return resp, toldMove(err)
		}
		resp.Closed = append(resp.Closed, admin.MoveClosed{Address: u.Address, MovedTo: u.MovedTo, Ended: ended})
	}
	return resp, nil
}
