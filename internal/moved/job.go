package moved

import (
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Step is something that hangs on a job: what else moves with an account (rooms, uploads, roles). Run is called outside of transactions, before the
// contacts are told where First, else behind that, and again after a restart until done was called without an error. It must not
// block, and a repeat must change nothing.
type Step struct {
	Name  string
	First bool
	Run   func(job store.MoveJob, done func(error))
}

// run is a job that is being worked on. Guarded by Moved.mu.
type run struct {
	passing bool // through its contacts
	again   bool // something changed meanwhile
	fails   int
	timer   *time.Timer // the next pass
	ask     time.Time   // when the old home may be asked, again, whom it told
	unknown bool        // it does not know of such questions
}

// kick lets a job be looked at: at its start, when its time has come, and when something changed. It does not block.
func (m *Moved) kick(new xmpp.JID) {
	if m.mayPass(new) {
		m.pass(new, "")
	}
}

func (m *Moved) mayPass(new xmpp.JID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return false
	}
	s := m.runs[new]
	if s == nil {
		s = &run{}
		m.runs[new] = s
	}
	if s.passing {
		s.again = true
		return false
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.passing = true
	return true
}

// pass does the first thing that is due behind a contact, then goes on behind that one, until nothing is due.
func (m *Moved) pass(new xmpp.JID, behind string) {
	var did string
	var next time.Time
	var step func()
	m.r.Submit(2048, func(tx *store.Tx, out *xmpp.Out) (err error) {
		did, next, step = "", time.Time{}, nil
		job, ok := store.MoveJobs.Get(tx, new.String())
		if !ok || job.State != store.MoveRunning || store.Held(tx) {
			return nil
		}
		if job.Outside {
			did, next, err = m.passOutside(tx, out, job)
			return err
		}
		if !m.r.IsLocal(new.Domain) || !store.Accounts.Has(tx, job.New) {
			return nil // not served, or not there, any more
		}
		if now := time.Now(); now.Before(job.Announced) {
			next = job.Announced
			return nil
		}
		if step = m.stepOf(job, true); step != nil {
			return nil
		}
		if did, next, err = m.nextContact(tx, out, job, new, behind); err != nil || did != "" {
			return err
		}
		if did, err = m.late(tx, job); err != nil || did != "" {
			return err
		}
		if step = m.stepOf(job, false); step != nil {
			return nil
		}
		finish(tx, job)
		ask, err := m.askTold(tx, out, job)
		next = sooner(next, ask)
		return err
	}, func(err error) { m.passed(new, behind, did, next, step, err) })
}

// passed is the end of one transaction of a pass. One that came to its end looks once more from the beginning, where somebody may wait for his turn.
func (m *Moved) passed(new xmpp.JID, behind, did string, next time.Time, step func(), err error) {
	m.mu.Lock()
	s := m.runs[new]
	again := false
	switch {
	case m.stopped:
	case err != nil: // as on a full disk
		wait := min(m.opt.RetryMin<<min(s.fails, 16), m.opt.RetryMax)
		s.fails++
		m.opt.Log.Error("moved: a job", "to", new.Domain, "error", err, "again in", wait)
		m.passLater(new, s, wait)
	case step != nil:
		m.mu.Unlock()
		step()
		return
	case did != "":
		s.fails = 0
		m.mu.Unlock()
		m.pass(new, did)
		return
	default:
		again, s.again = s.again || behind != "", false
		if !next.IsZero() && !again {
			m.passLater(new, s, time.Until(next))
		}
	}
	s.passing = again
	m.mu.Unlock()
	if again {
		m.pass(new, "")
	}
}

// passLater is called with the lock held.
func (m *Moved) passLater(new xmpp.JID, s *run, wait time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(max(wait, time.Millisecond), func() { m.kick(new) })
}

// stepOf is the first step of its kind that is not done yet, ready to run; the pass goes on when it is done, and once more later where it failed.
func (m *Moved) stepOf(job store.MoveJob, first bool) func() {
	for _, st := range m.steps {
		if st.First != first || !job.Steps[st.Name].IsZero() {
			continue
		}
		return func() {
			st.Run(job, func(err error) { m.stepped(job, st.Name, err) })
		}
	}
	return nil
}

func (m *Moved) stepped(job store.MoveJob, name string, err error) {
	new := xmpp.MustJID(job.New)
	if err != nil {
		m.passed(new, "", "", time.Time{}, nil, err)
		return
	}
	m.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {
		now, ok := store.MoveJobs.Get(tx, job.New)
		if !ok {
			return nil
		}
		if now.Steps == nil {
			now.Steps = map[string]time.Time{}
		}
		now.Steps[name] = time.Now().UTC()
		store.MoveJobs.Put(tx, job.New, now)
		return nil
	}, func(err error) {
		if err != nil {
			m.passed(new, "", "", time.Time{}, nil, err)
			return
		}
		m.pass(new, "")
	})
}

// nextContact does what is due with the first contact behind another. next is the earliest time at which something else is.
func (m *Moved) nextContact(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new xmpp.JID, behind string) (did string, next time.Time, err error) {
	prefix := store.Key(job.New, "")
	var who xmpp.JID
	var c store.MoveContact
	do := m.carry
	for key, have := range store.MoveContacts.From(tx, store.Key(job.New, behind), job.New) {
		name := strings.TrimPrefix(key, prefix)
		if have.Step != store.StepWaiting || name == behind {
			continue
		}
		j, err := xmpp.ParseJID(name)
		if err != nil {
			return "", next, err
		}
		if at, turn := m.due(tx, job, j, have); time.Now().Before(at) {
			if turn && !have.Entered {
				did, who, c, do = name, j, have, m.early
				break
			}
			next = sooner(next, at)
			continue
		}
		did, who, c = name, j, have
		break
	}
	if did == "" {
		return "", next, nil
	}
	return did, next, do(tx, out, job, new, who, c)
}

// sooner is the earlier one of two times; a zero one does not count.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// finish ends a job that has no contact who was asked or is still to be told.
func finish(tx *store.Tx, job store.MoveJob) {
	for _, c := range store.MoveContacts.All(tx, job.New) {
		if open(c.Step) && c.Step != store.StepTold { // whether he adds the new address is up to him
			return
		}
	}
	job.State, job.Ended = store.MoveDone, time.Now().UTC()
	store.MoveJobs.Put(tx, job.New, job)
}

// open tells whether something may still come of a contact.
func open(s store.MoveStep) bool {
	switch s {
	case store.StepWaiting, store.StepAsked, store.StepTold, store.StepToTell:
		return true
	}
	return false
}

// startJobs takes up the jobs that run.
func (m *Moved) startJobs() error {
	var all []xmpp.JID
	closing := false
	err := m.r.Store.View(func(tx *store.Tx) error {
		for key, job := range store.MoveJobs.All(tx) {
			j, err := xmpp.ParseJID(key)
			if err != nil {
				return err
			}
			if job.State == store.MoveRunning {
				all = append(all, j)
				m.pace.load(tx, j)
			}
			closing = closing || job.ThenClose
		}
		return nil
	})
	for _, j := range all {
		m.kick(j)
	}
	if closing {
		m.closeDue()
	}
	return err
}
