package box

import (
	"context"
	"errors"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// leaving is an account that goes to another server.
type leaving struct {
	b        *Box
	req      admin.MoveLeaveRequest
	old, new xmpp.JID
	way      client.Config
	t        *migration

	repeats bool // all contacts were told
	again   int  // contacts whose servers have not got the request, as far as is known
	news    int  // contacts of a session who were not told in an earlier one
}

// maxWait bounds MoveLeaveRequest.Wait.
const maxWait = 24 * time.Hour

// together is for how long one who left stays ready for others of this box who leave, too: then they find each other at their new addresses. It is
// how long the password is kept for that.
const together = time.Hour

// MoveLeave implements admin.API.
func (d *Daemon) MoveLeave(ctx context.Context, req admin.MoveLeaveRequest) (resp admin.MigrationResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	l, err := s.box.leaving(req)
	if err != nil {
		return resp, toldMove(err)
	}
	is := admin.Migration{Kind: kindLeave, Old: l.old.String(), New: l.new.String()}
	if req.DryRun {
		resp.Migration = is
		if req.Password == "" {
			return resp, nil
		}
		ctx, cancel := context.WithTimeout(ctx, undoTime)
		defer cancel()
		if err := l.login(ctx); err != nil {
			return resp, migrationError(err)
		}
		return resp, nil
	}
	if req.Password != "" {
		resp.Migration, err = s.box.migrations.begin(ctx, is, l.new, l.run)
		return resp, err
	}
	if is.Before, err = l.since(); err != nil {
		return resp, err
	}
	if err := l.plan(); err != nil {
		return resp, toldMove(err)
	}
	is.State, is.Began, is.Ended = admin.MigrationDone, time.Now().UTC(), time.Now().UTC()
	resp.Migration = is
	return resp, nil
}

func (b *Box) leaving(req admin.MoveLeaveRequest) (*leaving, error) {
	l := &leaving{b: b, req: req}
	var err error
	if l.old, err = b.Accounts.Parse(req.Account); err != nil {
		return nil, err
	}
	if l.new, err = b.awayAddress(req.New); err != nil {
		return nil, err
	}
	if err := b.foreign(l.new, "'pibox move start "+l.old.String()+" "+l.new.String()+"' moves it."); err != nil {
		return nil, err
	}
	if err := l.mayLeave(); err != nil {
		return nil, err
	}
	l.way, err = b.elsewhere(l.new, req.Password, req.Server, req.DirectTLS)
	return l, err
}

// mayLeave refuses an account that is not there, or announced another move: that one leaves from its new address, if it is here.
func (l *leaving) mayLeave() error {
	return l.b.Store.View(func(tx *store.Tx) error {
		if !store.Accounts.Has(tx, l.old.String()) {
			return admin.Errorf(admin.CodeNotFound, "there is no account %s", l.old).Then("'pibox user list' shows who there is.")
		}
		mv, ok := store.Moves.Get(tx, l.old.String())
		if !ok || mv.To == l.new.String() {
			return nil
		}
		err := admin.Errorf(admin.CodeInvalid, "%s moved to %s already", l.old, mv.To)
		if !store.Accounts.Has(tx, mv.To) {
			return err.Then("'pibox move undo %s' takes that back.", mv.To)
		}
		return err.Then("It leaves from there: 'pibox move leave %s %s'.", mv.To, l.new)
	})
}

// since is when the move began that runs, or is done; zero: none did.
func (l *leaving) since() (at time.Time, err error) {
	err = l.b.Store.View(func(tx *store.Tx) error {
		if job, ok := store.MoveJobs.Get(tx, l.new.String()); ok && job.Old == l.old.String() && (job.State == store.MoveRunning || job.State == store.MoveDone) {
			at = job.Started
		}
		return nil
	})
	return at, err
}

// plan notes the move with the contacts as they are now, and announces it. What was planned before stays; what can not begin is not left planned.
func (l *leaving) plan() error {
	made := false
	err := l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		made = false
		if job, ok := store.MoveJobs.Get(tx, l.new.String()); ok && job.Old == l.old.String() && job.State != store.MoveUndone && job.State != store.MoveDone {
			return nil
		}
		if err := moved.PlanJob(tx, store.MoveJob{Old: l.old.String(), New: l.new.String(), Outside: true}); err != nil {
			return err
		}
		made = true
		for key, item := range store.Roster.All(tx, l.old.String()) {
			who, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(l.old.String(), "")))
			if err != nil || item.Removed || who == l.new {
				continue
			}
			c := store.MoveContact{Sub: item.Sub, Ask: item.Ask, Approved: item.Approved, Name: item.Name, Groups: item.Groups}
			if err := moved.AddContact(tx, l.new, who, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err = l.b.Moved.StartJob(l.new, moved.StartOptions{}); err != nil && made {
		_, dropped := l.b.Moved.Cancel(l.new)
		err = errors.Join(err, dropped)
	}
	return err
}

func (l *leaving) run(ctx context.Context, t *migration) error {
	l.t = t
	return l.b.ended(l.new, t, l.all(ctx), false)
}

// all announces the move, builds up the new account, and tells the contacts from there. The login comes first: nothing is announced that can not go on.
func (l *leaving) all(ctx context.Context) error {
	if err := l.login(ctx); err != nil {
		return err
	}
	is := store.MigrationMark{Kind: kindLeave, Old: l.old.String(), New: l.new.String(), Server: l.req.Server, Direct: l.req.DirectTLS}
	if _, err := l.b.begun(is); err != nil {
		return err
	}
	if err := l.plan(); err != nil {
		return l.notBegun(err)
	}
	l.t.part("building up the new account")
	if err := l.build(ctx); err != nil {
		return err
	}
	if err := l.served(ctx); err != nil {
		return err
	}
	l.t.part("telling the contacts")
	if err := again(ctx, func() error { return l.tell(ctx) }); err != nil {
		return err
	}
	return l.repeat(ctx)
}

// login tries the new server and its password.
func (l *leaving) login(ctx context.Context) error {
	s, err := client.Dial(ctx, l.way)
	if err == nil {
		_ = s.Close()
	}
	return err
}

// notBegun forgets the mark of a migration of which nothing was begun.
func (l *leaving) notBegun(why error) error {
	job, err := l.job()
	if err == nil && job.Old != l.old.String() {
		_, _, err = l.b.forget(l.new)
	}
	return errors.Join(why, err)
}

// stepBuilt marks a job whose new account, at another server, was given the contents.
const stepBuilt = "built"

// build gives the new account the contents, once: what its owner changes there afterwards is newer.
func (l *leaving) build(ctx context.Context) error {
	job, err := l.job()
	if err != nil || !job.Steps[stepBuilt].IsZero() {
		return err
	}
	if err := again(ctx, func() error { return l.upload(ctx) }); err != nil {
		return err
	}
	return l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		if job, ok := store.MoveJobs.Get(tx, l.new.String()); ok {
			markStep(tx, job, stepBuilt)
		}
		return nil
	})
}

func (l *leaving) job() (job store.MoveJob, err error) {
	err = l.b.Store.View(func(tx *store.Tx) error {
		job, _ = store.MoveJobs.Get(tx, l.new.String())
		return nil
	})
	return job, err
}

// upload gives the contents to the new server, as far as it takes them. A repeat overwrites the same with the same.
func (l *leaving) upload(ctx context.Context) error {
	s, err := client.Dial(ctx, l.way)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	l.t.change(func(*admin.Migration) { l.t.losses = portable.Losses{} })
	return l.b.Exporter().Account(ctx, l.old, s.Upload(ctx, l.t.lose))
}

// served waits until the statement may be read, where the configuration delays it.
func (l *leaving) served(ctx context.Context) error {
	job, err := l.job()
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(job.Announced)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func step(s client.Step, c client.Contact) store.MoveStep {
	switch s {
	case client.StepFollowed:
		return store.StepFollowed
	case client.StepWaiting:
		return store.StepAsked
	case client.StepRefused:
		return store.StepRefused
	case client.StepFailed:
		return store.StepFailed
	case client.StepApproved, client.StepExpected:
		if c.Sub == store.SubFrom {
			return store.StepToTell
		}
		return store.StepAsked
	}
	return store.StepKept
}
