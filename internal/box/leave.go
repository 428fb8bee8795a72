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
}

// maxWait bounds MoveLeaveRequest.Wait.
const maxWait = 24 * time.Hour

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
	is := admin.Migration{Kind: "leave", Old: l.old.String(), New: l.new.String()}
	if req.Password != "" {
		resp.Migration, err = s.box.migrations.begin(ctx, is, l.new, l.run)
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
	if l.new, err = b.anAddress(req.New); err != nil {
		return nil, err
	}
	if err := b.foreign(l.new, "'pibox move start "+l.old.String()+" "+l.new.String()+"' moves it."); err != nil {
		return nil, err
	}
	l.way, err = b.elsewhere(l.new, req.Password, req.Server, req.DirectTLS)
	return l, err
}

// plan notes the move with the contacts as they are now, and announces it. What was planned before stays.
func (l *leaving) plan() error {
	err := l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		if job, ok := store.MoveJobs.Get(tx, l.new.String()); ok && job.Old == l.old.String() && job.State != store.MoveUndone && job.State != store.MoveDone {
			return nil
		}
		if !store.Accounts.Has(tx, l.old.String()) {
			return admin.Errorf(admin.CodeNotFound, "there is no account %s", l.old).Then("'pibox user list' shows who there is.")
		}
		if err := moved.PlanJob(tx, store.MoveJob{Old: l.old.String(), New: l.new.String(), Outside: true}); err != nil {
			return err
		}
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
	return l.b.Moved.StartJob(l.new, moved.StartOptions{})
}

// run announces the move, builds up the new account, and tells the contacts from there. The login comes first: nothing is announced that can not go on.
func (l *leaving) run(ctx context.Context, t *migration) error {
	l.t = t
	s, err := client.Dial(ctx, l.way)
	if err != nil {
		return err
	}
	_ = s.Close()
	if err := l.plan(); err != nil {
		return err
	}
	t.part("building up the new account")
	if err := again(ctx, func() error { return l.upload(ctx) }); err != nil {
		return err
	}
	if err := l.served(ctx); err != nil {
		return err
	}
	t.part("telling the contacts")
	return again(ctx, func() error { return l.tell(ctx) })
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
	var job store.MoveJob
	if err := l.b.Store.View(func(tx *store.Tx) error {
		job, _ = store.MoveJobs.Get(tx, l.new.String())
		return nil
	}); err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(job.Announced)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell goes through the contacts. Each one's step is stored before the next one's turn, so that nobody is asked twice.
func (l *leaving) tell(ctx context.Context) error {
	s, err := client.Dial(ctx, l.way)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	m, err := s.Mover(ctx, "I have moved: my new address is "+l.new.String()+".")
	if err != nil {
		return err
	}
	all, err := l.contacts()
	if err != nil {
		return err
	}
	for i, c := range all {
		// After a crash behind this the new contact list shows that he was asked.
		r, err := m.Tell(ctx, c)
		if err != nil {
			return err
		}
		if err := l.note(c, r.Why, step(r.Step, c)); err != nil {
			return err
		}
		l.t.change(func(is *admin.Migration) { is.Counts.Contacts, is.Counts.Told = len(all), i+1 })
	}
	wait := min(time.Duration(l.req.Wait)*time.Second, maxWait)
	if wait <= 0 || !m.Open() {
		return nil
	}
	l.t.part("waiting for contacts who have to ask")
	if err := m.Wait(ctx, wait, func() bool { return !m.Open() }); err != nil {
		return err
	}
	for _, c := range all {
		r := m.Report(c)
		if err := l.note(c, r.Why, step(r.Step, c)); err != nil {
			return err
		}
	}
	return nil
}

// contacts are those of the job who have not followed yet.
func (l *leaving) contacts() (all []client.Contact, err error) {
	err = l.b.Store.View(func(tx *store.Tx) error {
		for key, c := range store.MoveContacts.All(tx, l.new.String()) {
			switch c.Step {
			case store.StepFollowed, store.StepRefused, store.StepDropped, store.StepMoved, store.StepKept:
				continue
			}
			all = append(all, client.Contact{
				RosterItem: portable.RosterItem{
					JID: strings.TrimPrefix(key, store.Key(l.new.String(), "")), Name: c.Name, Groups: c.Groups, Sub: c.Sub, Ask: c.Ask, Approved: c.Approved,
				},
				Claim: l.old, Asked: c.Step == store.StepAsked,
			})
		}
		return nil
	})
	return all, err
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

// note stores how far a contact is.
func (l *leaving) note(c client.Contact, why string, step store.MoveStep) error {
	who, err := xmpp.ParseJID(c.JID)
	if err != nil {
		return err
	}
	return l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		key := store.Key(l.new.String(), who.String())
		now, ok := store.MoveContacts.Get(tx, key)
		job, there := store.MoveJobs.Get(tx, l.new.String())
		switch {
		case !there || job.State != store.MoveRunning && job.State != store.MoveDone:
			return errors.New("the move was cancelled")
		case !ok || now.Step == store.StepFollowed || now.Step == step && now.Failure == why:
			return nil // that he gave the old address up may be known before the session knows that he took the new one
		}
		now.Step, now.Failure, now.Since = step, why, time.Now().UTC()
		store.MoveContacts.Put(tx, key, now)
		return nil
	})
}
