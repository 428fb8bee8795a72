package box

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"pibox/internal/admin"
	"pibox/internal/moved"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// A session at another server ends with the process, because its password is in memory alone. What it stored goes on by itself; the rest is begun again
// by a person, to whom store.MigrationMark tells what.

// The kinds of migration.
const (
	kindBring = "bring"
	kindLeave = "leave"
)

// begun marks a migration whose login worked. What an earlier attempt knew stays.
func (b *Box) begun(is store.MigrationMark) (mark store.MigrationMark, err error) {
	err = b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		var ok bool
		if mark, ok = store.Migrating(tx, is.New); !ok || mark.Old != is.Old || mark.Kind != is.Kind {
			mark = is
			mark.Began, mark.Made = time.Now().UTC(), is.Kind == kindBring && !store.Accounts.Has(tx, is.New)
		}
		mark.Server, mark.Direct, mark.Failed = is.Server, is.Direct, ""
		store.MarkMigration(tx, mark)
		return nil
	})
	return mark, err
}

// ended forgets the mark of a migration that is through, and notes in that of another one why it is not. A stop of the box is no such reason; rest is one:
// the turn of some contacts did not come.
func (b *Box) ended(new xmpp.JID, t *migration, cause error, rest bool) error {
	if cause != nil && b.migrations.ctx.Err() != nil {
		return cause
	}
	report, err := json.Marshal(t.report())
	err = errors.Join(err, b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		mark, ok := store.Migrating(tx, new.String())
		switch {
		case !ok:
			return nil
		case cause == nil && !rest:
			store.EndMigration(tx, new.String())
			return nil
		case cause == nil:
			mark.Failed = "the turn of some contacts has not come yet"
		default:
			mark.Failed = migrationError(cause).Message
		}
		mark.Report = report
		store.MarkMigration(tx, mark)
		return nil
	}))
	if cause == nil {
		return err
	}
	if err != nil {
		b.log.Error("a migration that failed could not be noted", "error", err)
	}
	return cause
}

// report is what of a migration may be stored.
func (t *migration) report() admin.Migration {
	is := t.state()
	is.Password = ""
	return is
}

// session is the migration to an address that is not through; nil: there is none.
func (b *Box) session(tx *store.Tx, new xmpp.JID) *admin.Migration {
	if t := b.migrations.get(new); t != nil && !t.state().State.Over() {
		is := t.report()
		return &is
	}
	mark, ok := store.Migrating(tx, new.String())
	if !ok {
		return nil
	}
	if open, secret := needsSession(tx, mark), untold(tx, mark); open || secret {
		is := interrupted(mark)
		if !open {
			is.Error = is.Error.Then("Nobody was told the password of %s, which the box made: 'pibox user passwd %s' gives it another one.", mark.New, mark.New)
		}
		return &is
	}
	return nil
}

// untold tells whether an account has a password that nobody knows: it was to be shown when the migration is through.
func untold(tx *store.Tx, mark store.MigrationMark) bool {
	acc, _ := store.Accounts.Get(tx, mark.New)
	return mark.Made && acc.OneTime && !store.LastSeen.Has(tx, mark.New)
}

// passwordChanged: whoever changed it knows it, unless that is the migration itself.
func (b *Box) passwordChanged(tx *store.Tx, _ *xmpp.Out, account xmpp.JID, _ *xmpp.Session) {
	if t := b.migrations.get(account); t != nil && !t.state().State.Over() {
		return
	}
	mark, ok := store.Migrating(tx, account.String())
	switch {
	case !ok || !mark.Made:
	case needsSession(tx, mark):
		mark.Made = false
		store.MarkMigration(tx, mark)
	default:
		store.EndMigration(tx, mark.New)
	}
}

// needsSession tells whether something is left that only a session at the other server can do.
func needsSession(tx *store.Tx, mark store.MigrationMark) bool {
	job, ok := store.MoveJobs.Get(tx, mark.New)
	bring, done := mark.Kind == kindBring, stepBrought
	if !bring {
		done = stepBuilt
	}
	switch {
	case !ok || job.Old != mark.Old:
		return true
	case job.State == store.MoveUndone, job.State == store.MoveCancelled:
		return false
	case job.State == store.MovePlanned, job.Steps[done].IsZero():
		return true
	}
	if untold, err := moved.Untold(tx, job); bring && (err != nil || len(untold) > 0) {
		return true
	}
	for _, c := range store.MoveContacts.All(tx, mark.New) {
		switch {
		case bring && c.Step == store.StepWaiting && c.Sub == store.SubFrom:
			return true
		case !bring && (c.Sub.To() || c.Ask) && (c.Step == store.StepWaiting || c.Step == store.StepAsked && c.Failure != ""):
			return true
		}
	}
	return false
}

// interrupted tells of a migration that a person has to begin again.
func interrupted(mark store.MigrationMark) (is admin.Migration) {
	if len(mark.Report) > 0 {
		_ = json.Unmarshal(mark.Report, &is) // without it, less is told
	}
	is.Kind, is.Old, is.New, is.Began, is.State, is.Part = mark.Kind, mark.Old, mark.New, mark.Began, admin.MigrationInterrupted, ""
	account, command := mark.Old, "pibox move bring "+mark.Old+" "+mark.New
	if mark.Kind == kindLeave {
		account, command = mark.New, "pibox move leave "+mark.Old+" "+mark.New+" --build"
	}
	if mark.Server != "" {
		command += " --server " + mark.Server
	}
	if mark.Direct {
		command += " --direct-tls"
	}
	why := "a restart of the box interrupted it"
	if mark.Failed != "" {
		is.State, why = admin.MigrationFailed, mark.Failed
	}
	is.Error = admin.Errorf(admin.CodeFailed, "%s", why).Then("Give the password of %s again with '%s'.", account, command)
	return is
}

// lastly gives the migration to an address that is not in memory any more.
func (b *Box) lastly(new xmpp.JID) (is admin.Migration, ok bool) {
	err := b.Store.View(func(tx *store.Tx) error {
		s := b.session(tx, new)
		if ok = s != nil; ok {
			is = *s
		}
		return nil
	})
	return is, ok && err == nil
}

// forget ends what is known of a migration; it was cancelled, or the account goes.
func (b *Box) forget(new xmpp.JID) (was store.MigrationMark, ok bool, err error) {
	err = b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		was, ok = store.Migrating(tx, new.String())
		store.EndMigration(tx, new.String())
		return nil
	})
	return was, ok, err
}

const (
	resumeMin = time.Minute
	resumeMax = time.Hour
)

// resumeMigrations goes on with what needs no password: a move whose contents are here begins as soon as its old home is seen to announce it.
func (b *Box) resumeMigrations() error {
	var marks []store.MigrationMark
	if err := b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		marks = store.AllMigrating(tx)
		for _, mark := range marks {
			if !needsSession(tx, mark) && !untold(tx, mark) {
				store.EndMigration(tx, mark.New)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, mark := range marks {
		new, err := xmpp.ParseJID(mark.New)
		if err != nil || mark.Kind != kindBring {
			continue
		}
		b.migrations.wg.Go(func() {
			for wait := resumeMin; b.announcedLater(new); wait = min(2*wait, resumeMax) {
				if err := b.startFromElsewhere(b.migrations.ctx, new, moved.StartOptions{}); err == nil {
					return
				}
				if pauseFor(b.migrations.ctx, wait) != nil {
					return
				}
			}
		})
	}
	return nil
}

// announcedLater tells whether everything of a move is here but the old home's word.
func (b *Box) announcedLater(new xmpp.JID) (yes bool) {
	err := b.Store.View(func(tx *store.Tx) error {
		job, ok := store.MoveJobs.Get(tx, new.String())
		_, marked := store.Migrating(tx, new.String())
		yes = ok && marked && job.State == store.MovePlanned && !job.Steps[stepBrought].IsZero()
		return nil
	})
	return yes && err == nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
