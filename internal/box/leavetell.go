package box

import (
	"context"
	"errors"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/portable"
	"pibox/internal/portable/client"
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// tell tells all contacts who are open. What became of them is stored before anything is waited for; after a crash before that the new contact list
// shows who was asked.
func (l *leaving) tell(ctx context.Context) error {
	s, m, all, err := l.session(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := l.told(ctx, m, all); err != nil {
		return err
	}
	l.t.change(func(is *admin.Migration) { is.Counts.Contacts, is.Counts.Told = len(all), len(all) })
	wait := min(time.Duration(l.req.Wait)*time.Second, maxWait)
	if wait <= 0 || !m.Open() {
		return nil
	}
	l.t.part("waiting for contacts who have to ask")
	if err := m.Wait(ctx, wait, func() bool { return !m.Open() }); err != nil {
		return err
	}
	return l.reported(m, all)
}

// repeat goes on with contacts whose servers could not be reached: their servers would get the request from the new server some day, but without what
// tells of the move. It ends when nobody is left, or with the time for a migration.
func (l *leaving) repeat(ctx context.Context) error {
	l.repeats = true
	until, _ := ctx.Deadline()
	for began := time.Now(); l.again > 0; {
		wait := client.Backoff(time.Since(began))
		if time.Until(until) < wait+time.Hour {
			return nil // who is left stays as he is noted
		}
		if err := l.t.pause(ctx, wait); err != nil {
			return err
		}
		if err := l.once(ctx); err != nil && !client.Again(err) {
			return err
		}
	}
	return nil
}

// once is one more session.
func (l *leaving) once(ctx context.Context) error {
	s, m, all, err := l.session(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return l.told(ctx, m, all)
}

// session logs in to the new account. The contacts are read behind that: a login takes its time, and somebody may be blocked meanwhile.
func (l *leaving) session(ctx context.Context) (*client.Session, *client.Mover, []client.Contact, error) {
	s, err := client.Dial(ctx, l.way)
	if err != nil {
		return nil, nil, nil, err
	}
	lang, text := l.b.Moved.Words(l.old, l.new)
	m, err := s.Mover(ctx, client.Words{Lang: lang, Text: text})
	var all []client.Contact
	if err == nil {
		all, err = l.contacts()
	}
	if err != nil {
		_ = s.Close()
		return nil, nil, nil, err
	}
	return s, m, all, nil
}

// told tells contacts, and waits for their servers.
func (l *leaving) told(ctx context.Context, m *client.Mover, all []client.Contact) error {
	reports, err := m.Tell(ctx, all)
	if err != nil {
		return err
	}
	if err := l.note(all, reports); err != nil {
		return err
	}
	if err := m.Reach(ctx); err != nil {
		return err
	}
	return l.reported(m, all)
}

func (l *leaving) reported(m *client.Mover, all []client.Contact) error {
	reports := make([]client.Report, len(all))
	for i, c := range all {
		reports[i] = m.Report(c)
	}
	return l.note(all, reports)
}

// blockedWhy is what is noted of a contact whom nobody tells.
const blockedWhy = "blocked: not told"

// contacts are those of the job who have not followed yet. Who is blocked comes with nothing to ask, so that he learns nothing.
func (l *leaving) contacts() (all []client.Contact, err error) {
	err = l.b.Store.View(func(tx *store.Tx) error {
		if job, there := store.MoveJobs.Get(tx, l.new.String()); !there || job.State != store.MoveRunning && job.State != store.MoveDone {
			return errors.New("the move was cancelled")
		}
		for key, c := range store.MoveContacts.All(tx, l.new.String()) {
			switch c.Step {
			case store.StepFollowed, store.StepRefused, store.StepDropped, store.StepMoved, store.StepKept:
				continue
			case store.StepFailed:
				if l.repeats {
					continue
				}
			}
			who, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(l.new.String(), "")))
			if err != nil {
				return err
			}
			item := portable.RosterItem{JID: who.String(), Name: c.Name, Groups: c.Groups, Sub: c.Sub, Ask: c.Ask, Approved: c.Approved}
			if l.b.blocks(tx, l.old, who) {
				if c.Step == store.StepAsked {
					continue // too late, but not once more
				}
				item.Sub, item.Ask, item.Approved = store.SubNone, false, false
			}
			// What shows that he was reached leaves no failure.
			all = append(all, client.Contact{RosterItem: item, Claim: l.old, Asked: c.Step == store.StepAsked, Again: c.Failure != ""})
		}
		return nil
	})
	return all, err
}

// blocks tells whether an account blocks an address, its domain, or one of its resources (XEP-0191).
func (b *Box) blocks(tx *store.Tx, account, who xmpp.JID) bool {
	if b.blocking.Blocked(tx, account, who) {
		return true
	}
	full := store.Key(account.String(), who.String()) + "/"
	for key := range store.Blocks.From(tx, full, account.String()) {
		return strings.HasPrefix(key, full)
	}
	return false
}

// note stores how far the contacts are.
func (l *leaving) note(all []client.Contact, reports []client.Report) error {
	l.again = 0
	for _, r := range reports {
		if r.Again {
			l.again++
		}
	}
	l.t.change(func(is *admin.Migration) { is.Counts.Unreached = l.again })
	return l.b.Router.Update(func(tx *store.Tx, _ *xmpp.Out) error {
		job, there := store.MoveJobs.Get(tx, l.new.String())
		if !there || job.State != store.MoveRunning && job.State != store.MoveDone {
			return errors.New("the move was cancelled")
		}
		for i, c := range all {
			l.noteOne(tx, c, reports[i])
		}
		return nil
	})
}

func (l *leaving) noteOne(tx *store.Tx, c client.Contact, r client.Report) {
	key := store.Key(l.new.String(), c.JID)
	now, ok := store.MoveContacts.Get(tx, key)
	next, why := step(r.Step, c), r.Why
	if next == store.StepKept && (now.Sub != c.Sub || now.Ask != c.Ask) {
		why = blockedWhy
	}
	told := now.Step == store.StepTold && next == store.StepToTell // by the old home, which is ours
	if !ok || told || now.Step == store.StepFollowed || now.Step == next && now.Failure == why {
		return // that he gave the old address up may be known before the session knows that he took the new one
	}
	now.Step, now.Failure, now.Since = next, why, time.Now().UTC()
	store.MoveContacts.Put(tx, key, now)
}
