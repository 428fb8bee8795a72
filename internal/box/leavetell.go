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

// tell tells all contacts who are open, in one session. What became of them is stored before anything is waited for. After a crash before that they are sent
// the same request once more: the new server may have crashed with it, and theirs takes two for one question (RFC 6121 §3.1.3).
func (l *leaving) tell(ctx context.Context) error {
	s, m, all, err := l.session(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := l.told(ctx, m, all); err != nil {
		return err
	}
	l.t.change(func(is *admin.Migration) {
		if !l.repeats {
			is.Counts.Contacts, is.Counts.Told = len(all), len(all)
			return
		}
		is.Counts.Contacts, is.Counts.Told = is.Counts.Contacts+l.news, is.Counts.Told+l.news
	})
	if l.repeats && l.news == 0 {
		return nil
	}
	return l.await(ctx, m, all)
}

// await answers contacts who have to ask, where the server can not approve them in advance. Who comes, or leaves as well, meanwhile is told, too.
func (l *leaving) await(ctx context.Context, m *client.Mover, all []client.Contact) error {
	until := time.Now().Add(min(time.Duration(l.req.Wait)*time.Second, maxWait))
	if !m.Open() || !time.Now().Before(until) {
		return nil
	}
	l.t.part("waiting for contacts who have to ask")
	for m.Open() && time.Now().Before(until) {
		if err := m.Wait(ctx, min(time.Until(until), 5*time.Second), func() bool { return !m.Open() }); err != nil {
			return err
		}
		if !l.fresh() {
			continue
		}
		var err error
		if all, err = l.contacts(); err != nil {
			return err
		}
		if err := l.told(ctx, m, all); err != nil {
			return err
		}
	}
	return l.reported(m, all)
}

// repeat goes on with contacts whose servers could not be reached: their servers would get the request from the new server some day, but without what
// tells of the move. It also tells who comes, or leaves this box as well, meanwhile. It ends when nobody is left, or with the time for a migration.
func (l *leaving) repeat(ctx context.Context) error {
	l.repeats = true
	until, _ := ctx.Deadline()
	lost := false
	for began := time.Now(); ; {
		fresh, others, err := l.outlook()
		if err != nil {
			return err
		}
		wait, early := client.Backoff(time.Since(began)), l.fresh
		switch {
		case lost:
			early = nil
		case fresh:
			wait = 0
		case l.again > 0:
		case others && time.Since(began) < together:
			wait = time.Until(began.Add(together))
		default:
			return nil
		}
		if time.Until(until) < wait+time.Hour {
			return nil // who is left stays as he is noted
		}
		if err := l.t.pause(ctx, wait, early); err != nil {
			return err
		}
		err = l.tell(ctx)
		if lost = err != nil; lost && !client.Again(err) {
			return err
		}
	}
}

// outlook tells whether there is something to do for contacts (fresh), and whether there may be, because contacts of this box can leave it, too.
func (l *leaving) outlook() (fresh, others bool, err error) {
	err = l.b.Store.View(func(tx *store.Tx) error {
		fresh, others = false, false
		for key, c := range store.MoveContacts.All(tx, l.new.String()) {
			who, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(l.new.String(), "")))
			if err != nil {
				return err
			}
			fresh = fresh || c.Step == store.StepWaiting || movedOn(c)
			acc, ok := store.Accounts.Get(tx, who.String())
			others = others || ok && acc.Closed == nil && c.Address == "" && c.Step != store.StepKept && c.Step != store.StepDropped && c.Step != store.StepRefused
		}
		return nil
	})
	return fresh, others, err
}

func (l *leaving) fresh() bool {
	fresh, _, err := l.outlook()
	return fresh || err != nil
}

// movedOn tells of a contact on the new list that he has another address now.
func movedOn(c store.MoveContact) bool { return c.Address != "" && c.Entered }

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
	if err := m.Verify(ctx, all); err != nil {
		return err
	}
	if err := l.intend(m, all); err != nil {
		return err
	}
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
		l.news = 0
		for key, c := range store.MoveContacts.All(tx, l.new.String()) {
			if l.settled(c) && !movedOn(c) {
				continue
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
			if c.Step == store.StepWaiting {
				l.news++
			}
			// What shows that he was reached leaves no failure.
			all = append(all, client.Contact{RosterItem: item, Claim: l.old, Asked: c.Step == store.StepAsked, Again: c.Failure != "",
				Listed: c.Listed, Admitted: c.PreApproved, Left: movedOn(c)})
		}
		return nil
	})
	return all, err
}

// settled tells that no session has anything more to do for a contact.
func (l *leaving) settled(c store.MoveContact) bool {
	switch c.Step {
	case store.StepFollowed, store.StepKept: // which the old home may have found out by itself
		return c.Entered || c.Address != ""
	case store.StepRefused, store.StepDropped, store.StepMoved:
		return true
	case store.StepFailed:
		return l.repeats
	}
	return false
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
	if next == store.StepToTell && now.Told { // by the old home, which is ours
		next = store.StepTold
	}
	// That he gave the old address up, or moved himself, may be known before the session knows that he took the new one.
	same := now.Step == store.StepFollowed || now.Address != "" || now.Step == next && now.Failure == why
	entered := !c.Left && (now.Entered || r.Step != client.StepFailed)
	if !ok || same && now.Entered == entered {
		return
	}
	if now.Entered = entered; !same {
		now.Step, now.Failure, now.Since = next, why, time.Now().UTC()
	}
	store.MoveContacts.Put(tx, key, now)
}
