package box

import (
	"context"
	"errors"
	"time"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
)

// stepBrought marks a job whose contents have come from the old server.
const stepBrought = "brought"

// bringing is an account that comes from another server.
type bringing struct {
	b        *Box
	req      admin.MoveBringRequest
	old, new xmpp.JID
	way      client.Config
	t        *migration
	refused  map[xmpp.JID]bool   // contacts whose servers gave back what tells them
	mark     store.MigrationMark // of this attempt and those before
	unsure   bool                // an earlier session may have told contacts of whom that is not noted
	rest     bool                // the move did not come to some whom only the old address can tell
}

// MoveBring implements admin.API.
func (d *Daemon) MoveBring(ctx context.Context, req admin.MoveBringRequest) (resp admin.MigrationResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	br, err := s.box.bringing(req)
	if err != nil {
		return resp, toldMove(err)
	}
	is := admin.Migration{Kind: kindBring, Old: br.old.String(), New: br.new.String()}
	if is.Before, err = br.through(); err != nil {
		return resp, err
	}
	switch {
	case !is.Before.IsZero() && !req.DryRun:
		is.State = admin.MigrationDone
		resp.Migration = is
		return resp, nil
	case req.OldPassword == "":
		missing := admin.Errorf(admin.CodePassword, "the password of %s is missing", br.old)
		missing.Account = br.new.String()
		return resp, missing
	case req.DryRun:
		resp.Migration, err = br.look(ctx, is)
		return resp, err
	}
	resp.Migration, err = s.box.migrations.begin(ctx, is, br.new, br.run)
	return resp, err
}

func (b *Box) bringing(req admin.MoveBringRequest) (*bringing, error) {
	br := &bringing{b: b, req: req, refused: map[xmpp.JID]bool{}}
	var err error
	if br.old, err = b.awayAddress(req.Old); err != nil {
		return nil, err
	}
	if req.New == "" {
		req.New = br.old.Local
	}
	if br.new, err = b.newAddress(req.New); err != nil {
		return nil, err
	}
	next := "'pibox move start " + br.old.String() + " " + br.new.String() + "' moves it."
	if br.old == br.new {
		next = "OLD is an address at another server: run this on the box where the account is to be. 'pibox move start' moves within a box."
	}
	if err := b.foreign(br.old, next); err != nil {
		return nil, err
	}
	if err := br.once(); err != nil {
		return nil, err
	}
	br.way, err = b.elsewhere(br.old, req.OldPassword, req.Server, req.DirectTLS)
	return br, err
}

// through tells when an account came of which nothing is left that needs its old server; zero: something is.
func (br *bringing) through() (at time.Time, err error) {
	err = br.b.Store.View(func(tx *store.Tx) error {
		job, ok := store.MoveJobs.Get(tx, br.new.String())
		runs := ok && job.Old == br.old.String() && (job.State == store.MoveRunning || job.State == store.MoveDone)
		_, importing := store.Importing(tx, br.new.String())
		open := needsSession(tx, store.MigrationMark{Kind: kindBring, Old: br.old.String(), New: br.new.String()}) || br.b.session(tx, br.new) != nil
		if runs && !importing && !open {
			at = job.Steps[stepBrought]
		}
		return nil
	})
	return at, err
}

// look logs in and counts.
func (br *bringing) look(ctx context.Context, is admin.Migration) (admin.Migration, error) {
	s, err := client.Dial(ctx, br.way)
	if err == nil {
		defer func() { _ = s.Close() }()
		var list []portable.RosterItem
		list, err = s.Roster(ctx)
		is.State, is.Counts.Contacts = admin.MigrationDone, len(list)
	}
	if err != nil {
		return is, migrationError(err)
	}
	return is, nil
}

func (br *bringing) run(ctx context.Context, t *migration) error {
	br.t = t
	return br.b.ended(br.new, t, br.all(ctx), br.rest)
}

// all is the whole way: everything comes, the old address says where it went, and the move starts. What was done before is not done again.
func (br *bringing) all(ctx context.Context) error {
	t := br.t
	job, here, err := br.standing()
	if err != nil {
		return err
	}
	if here {
		t.change(func(is *admin.Migration) { is.Before = job.Steps[stepBrought] })
	} else if err := br.take(ctx); err != nil {
		return err
	}
	if job.State == "" || job.State == store.MovePlanned {
		if err := br.announce(ctx); err != nil {
			return err
		}
	}
	t.part("telling the contacts")
	if err := br.b.Moved.StartJob(br.new, moved.StartOptions{Unverified: br.req.Unverified}); err != nil {
		return err
	}
	if err := br.tell(ctx); err != nil || !here {
		return err
	}
	return br.password()
}

// begun marks that somebody was let in at the old server.
func (br *bringing) begun() (err error) {
	if br.mark.New == "" {
		br.mark, err = br.b.begun(store.MigrationMark{Kind: kindBring, Old: br.old.String(), New: br.new.String(), Server: br.req.Server, Direct: br.req.DirectTLS})
	}
	return err
}

// password gives an account another one that an attempt before this made: nobody was told that of its own.
func (br *bringing) password() error {
	secret := false
	if err := br.b.Store.View(func(tx *store.Tx) error {
		br.mark, _ = store.Migrating(tx, br.new.String())
		secret = untold(tx, br.mark)
		return nil
	}); err != nil || !br.mark.Made || !secret && br.req.Password == "" || len(br.b.Router.Sessions(br.new)) > 0 {
		return err
	}
	oneTime, _, err := br.b.Accounts.SetPassword(br.new, br.req.Password)
	br.t.change(func(is *admin.Migration) { is.Password = oneTime })
	return err
}

// standing tells what an earlier attempt left: the job, and whether the contents are here.
func (br *bringing) standing() (job store.MoveJob, here bool, err error) {
	err = br.b.Store.View(func(tx *store.Tx) error {
		if store.Held(tx) {
			return moved.ErrHeld
		}
		_, importing := store.Importing(tx, br.new.String())
		if mark, ok := store.Migrating(tx, br.new.String()); ok && mark.Kind == kindBring && mark.Old == br.old.String() {
			br.mark, br.unsure = mark, true
		}
		job, here = store.MoveJobs.Get(tx, br.new.String())
		if !here || job.Old != br.old.String() || job.State == store.MoveUndone {
			job, here = store.MoveJob{}, false
			return nil
		}
		here = !importing && !job.Steps[stepBrought].IsZero()
		return nil
	})
	return job, here, err
}

// take brings the contents. The account is made only when the old server has let us in.
func (br *bringing) take(ctx context.Context) error {
	im := br.b.Importer(ctx, func(o *portable.ImportOptions) {
		o.Only, o.As = br.old, br.new
		appear := o.Appear
		o.Appear = func(tx *store.Tx, out *xmpp.Out, account xmpp.JID) error {
			return errors.Join(br.brought(tx), appear(tx, out, account))
		}
	})
	defer func() { _ = im.Close() }()
	counts, err := client.Bring(ctx, br.way, &arrival{Importer: im, br: br}, client.Options{Progress: func(part string, c client.Counts) {
		br.t.counts(c)
		br.t.part(part)
	}})
	br.t.counts(counts)
	for _, r := range im.Results() {
		if r.Refused != nil {
			return admin.Errorf(admin.CodeExists, "%v", r.Refused).Then("Bring it to another address of this box, or remove that account first.")
		}
		for _, l := range r.Losses {
			br.t.change(func(*admin.Migration) { br.t.losses.AddN(l.Loss, l.Count) })
		}
	}
	return err
}

// brought notes, in the transaction that makes the account whole, that its contents are here: they come once.
func (br *bringing) brought(tx *store.Tx) error {
	job, ok := store.MoveJobs.Get(tx, br.new.String())
	if !ok {
		return errors.New("the move was not planned")
	}
	markStep(tx, job, stepBrought)
	return nil
}

// markStep notes that a step of a job is done.
func markStep(tx *store.Tx, job store.MoveJob, name string) {
	if job.Steps == nil {
		job.Steps = map[string]time.Time{}
	}
	job.Steps[name] = time.Now().UTC()
	store.MoveJobs.Put(tx, job.New, job)
}

// arrival is the importer with the account made before it.
type arrival struct {
	*portable.Importer
	br *bringing
}

// User implements portable.Sink.
func (a *arrival) User(u portable.User) error {
	br := a.br
	if err := br.begun(); err != nil {
		return err
	}
	oneTime, err := br.b.Accounts.Create(br.new, br.req.Password, accounts.Role{})
	switch {
	case errors.Is(err, accounts.ErrExists):
		err = br.password()
	case err == nil:
		br.t.change(func(is *admin.Migration) { is.Password = oneTime })
	}
	if err != nil {
		return err
	}
	return a.Importer.User(u)
}

// announce publishes the statement at the old server.
func (br *bringing) announce(ctx context.Context) error {
	br.t.part("announcing the move at the old server")
	var st client.Statement
	readers, err := br.b.Moved.Readers(br.new)
	if err != nil {
		return err
	}
	err = again(ctx, func() error {
		s, err := client.Dial(ctx, br.way)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		if err := br.begun(); err != nil {
			return err
		}
		st, err = s.Publish(ctx, br.new, readers)
		return err
	})
	var none *client.NoStatement
	if errors.As(err, &none) && br.req.Unverified {
		br.t.lose(portable.Loss{What: "the proof of the move", Why: none.Why})
		return nil
	}
	if err != nil {
		return err
	}
	br.t.change(func(is *admin.Migration) { is.Lacks = st.Lacks })
	return br.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error { return moved.SetAnnounced(tx, br.new, time.Now()) })
}
