package box

import (
	"context"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// undoTime bounds what is done at the other server.
const undoTime = 5 * time.Minute

// stepNoted marks a job whose sessions note for each contact what they do at the new account; those of earlier versions did not.
const stepNoted = "noted"

// intend notes what is about to be done at the new account for each contact, before it is done: what is not the move's is never taken back.
func (l *leaving) intend(m *client.Mover, all []client.Contact) error {
	return l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		if job, ok := store.MoveJobs.Get(tx, l.new.String()); ok && job.Steps[stepNoted].IsZero() && len(entered(tx, job.New)) == 0 {
			markStep(tx, job, stepNoted)
		}
		for _, c := range all {
			key := store.Key(l.new.String(), c.JID)
			now, ok := store.MoveContacts.Get(tx, key)
			will := m.Will(c)
			was := now
			now.Made, now.Asks, now.PreApproved = now.Made || will.Entered, now.Asks || will.Asked, now.PreApproved || will.Approved
			now.Listed = (now.Listed || will.Listed) && !will.Asked
			if !ok || now.Made == was.Made && now.Asks == was.Asks && now.PreApproved == was.PreApproved && now.Listed == was.Listed {
				continue
			}
			store.MoveContacts.Put(tx, key, now)
		}
		return nil
	})
}

// entered are the contacts whom a session put on the list of the new account, and who have not followed.
func entered(tx *store.Tx, new string) (all []string) {
	for key, c := range store.MoveContacts.All(tx, new) {
		if c.Entered && c.Step != store.StepFollowed {
			all = append(all, strings.TrimPrefix(key, store.Key(new, "")))
		}
	}
	return all
}

// undoLeave takes a move to another server back there, too. The login comes first: nothing is retracted that can not go on. What is left, should the
// session end, is told, and taken back by the same command later.
func (b *Box) undoLeave(ctx context.Context, req admin.MoveUndoRequest) (resp admin.MoveUndoResponse, err error) {
	new, err := b.anAddress(req.New)
	if err != nil {
		return resp, toldMove(err)
	}
	job, err := b.outside(new)
	if err != nil {
		return resp, err
	}
	way, err := b.elsewhere(new, req.Password, req.Server, req.DirectTLS)
	if err != nil {
		return resp, err
	}
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	s, err := client.Dial(ctx, way)
	if err != nil {
		return resp, migrationError(err)
	}
	defer func() { _ = s.Close() }()
	one := admin.MoveStopped{Old: job.Old, New: job.New, Statement: "retracted", Followed: []string{}, Asked: []string{}, Stopped: []string{}}
	if job.State != store.MoveUndone {
		list, err := b.stopMoves(new.String(), b.Moved.Undo)
		if err != nil {
			return resp, err
		}
		one = list[0]
	}
	if t := b.migrations.get(new); t != nil {
		select { // a session that tells contacts may not be at its end
		case <-t.done:
		case <-ctx.Done():
			return resp, migrationError(ctx.Err())
		}
	}
	if one.There, one.TakenThere, err = b.takeBack(ctx, s, new); err == nil {
		err = b.unnoted(new, &one)
	}
	resp.Undone = []admin.MoveStopped{one}
	if err != nil {
		return resp, migrationError(err)
	}
	return resp, nil
}

// outside is the job of a move to another server that was begun.
func (b *Box) outside(new xmpp.JID) (job store.MoveJob, err error) {
	err = b.Store.View(func(tx *store.Tx) error {
		var ok bool
		switch job, ok = store.MoveJobs.Get(tx, new.String()); {
		case !ok:
			return admin.Errorf(admin.CodeNotFound, "there is no move to %s", new).Then("'pibox move status --all' shows all moves.")
		case !job.Outside:
			return admin.Errorf(admin.CodeInvalid, "%s is on this box: its password is not needed", new).Then("'pibox move undo %s' takes it back.", new)
		}
		return nil
	})
	return job, err
}

// takeBack takes back at the new account what the move did there; what is done is noted. left are contacts of whom something is still there.
func (b *Box) takeBack(ctx context.Context, s *client.Session, new xmpp.JID) (left, taken []string, err error) {
	var all []client.Trace
	if err := b.Store.View(func(tx *store.Tx) error {
		for key, c := range store.MoveContacts.All(tx, new.String()) {
			if c.Step != store.StepFollowed && (c.Made || c.Asks || c.PreApproved) {
				all = append(all, client.Trace{JID: strings.TrimPrefix(key, store.Key(new.String(), "")), Entered: c.Made, Asked: c.Asks, Approved: c.PreApproved})
			}
		}
		return nil
	}); err != nil {
		return nil, nil, err
	}
	became, err := s.TakeBack(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	err = b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		left, taken = nil, []string{}
		for _, one := range became {
			if one.Why != "" {
				left = append(left, one.JID)
				continue
			}
			taken = append(taken, one.JID)
			key := store.Key(new.String(), one.JID)
			if c, ok := store.MoveContacts.Get(tx, key); ok {
				c.Made, c.Asks, c.PreApproved, c.Listed = false, false, false, false
				store.MoveContacts.Put(tx, key, c)
			}
		}
		return nil
	})
	return left, taken, err
}

// unnoted names those of whom an earlier version did not note what it did at the new account: what was there before is not known, so nothing is taken back.
func (b *Box) unnoted(new xmpp.JID, one *admin.MoveStopped) error {
	return b.Store.View(func(tx *store.Tx) error {
		job, _ := store.MoveJobs.Get(tx, new.String())
		if all := entered(tx, job.New); job.Steps[stepNoted].IsZero() && len(one.TakenThere) == 0 && len(all) > 0 {
			one.Unnoted, one.There = true, all
		}
		return nil
	})
}
