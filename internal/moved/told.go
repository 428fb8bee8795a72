package moved

import (
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// nsTold is how two boxes speak of who was told: contacts who only see the owner learn of a move from the old address alone, so only the old home
// knows. The new address names contacts, and gets those of them back who were sent the message.
//
//	<told xmlns='urn:pibox:moved:0'><contact jid='nurse@montague.example'/></told>
const nsTold = "urn:pibox:moved:0"

// toldAtOnce bounds the contacts in one question.
const toldAtOnce = 100

// answerTold answers the address that the account's statement names, and nobody else.
func (m *Moved) answerTold(rq *xmpp.Request) error {
	x := xmpp.NewXMLNS("told", nsTold)
	allowed := false
	err := rq.View(func(tx *store.Tx) error {
		mv, ok := store.Moves.Get(tx, rq.Account().String())
		from := rq.From.Bare()
		if allowed = ok && mv.To == from.String() && !m.blocked(tx, rq.Account(), from); !allowed {
			return nil
		}
		for i, j := range contactsIn(rq.Stanza) {
			if c, _ := store.MoveContacts.Get(tx, store.Key(mv.To, j.String())); c.Told && i < toldAtOnce {
				x.Open("contact", "").Attr("jid", j.String()).Close()
			}
		}
		return nil
	})
	if err == nil && !allowed {
		err = xmpp.Errorf(stanza.ServiceUnavailable, "") // as where nobody knows of this
	}
	if err == nil {
		rq.Reply(x.Bytes())
	}
	return err
}

// contactsIn are the addresses in a question, or an answer.
func contactsIn(st *xmpp.Stanza) (all []xmpp.JID) {
	told := st.Node().Child(nsTold, "told")
	if told == nil {
		return nil
	}
	for _, c := range told.Children {
		if j, ok := bareJID(c.Attr("jid")); ok && c.NS == nsTold && c.Name == "contact" {
			all = append(all, j)
		}
	}
	return all
}

// Untold are the contacts of a job whom its old address, which is elsewhere, is to tell in a message, and is not known to have told.
func Untold(tx *store.Tx, job store.MoveJob) (all []xmpp.JID, err error) {
	for key, c := range store.MoveContacts.All(tx, job.New) {
		if c.Told || c.Step != store.StepToTell && (c.Step != store.StepAsked || !c.ToTell) || c.Claim != "" && c.Claim != job.Old {
			continue
		}
		who, err := xmpp.ParseJID(strings.TrimPrefix(key, store.Key(job.New, "")))
		if err != nil {
			return nil, err
		}
		all = append(all, who)
	}
	return all, nil
}

// Told notes that a contact of Untold was told by the old address, by whoever did it there.
func Told(tx *store.Tx, new, contact xmpp.JID) {
	key := store.Key(new.String(), contact.Bare().String())
	c, ok := store.MoveContacts.Get(tx, key)
	if !ok || c.Told || c.Step != store.StepToTell && !c.ToTell {
		return
	}
	if c.Told, c.ToTell = true, false; c.Step == store.StepToTell {
		c.Step, c.Since = store.StepTold, time.Now().UTC()
	}
	store.MoveContacts.Put(tx, key, c)
	if job, ok := store.MoveJobs.Get(tx, new.String()); ok && job.State == store.MoveRunning {
		finish(tx, job)
	}
}

// askTold asks the old home of a running job whom it told: first after RetryMin, then as often as the job is old, at least every RetryMax. next is
// when it is to be called again; zero where nobody is to be told, or nobody knows.
func (m *Moved) askTold(tx *store.Tx, out *xmpp.Out, job store.MoveJob) (next time.Time, err error) {
	old, new, err := addresses(job)
	if err != nil || m.r.IsLocal(old.Domain) {
		return next, err
	}
	all, err := Untold(tx, job)
	if err != nil || len(all) == 0 {
		return next, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, now := m.runs[new], time.Now()
	switch {
	case s == nil || s.unknown:
		return next, nil
	case s.ask.IsZero():
		s.ask = now.Add(m.opt.RetryMin)
	case !now.Before(s.ask):
		s.ask = now.Add(min(max(now.Sub(job.Started)/2, m.opt.RetryMin), m.opt.RetryMax))
		out.After(func() {
			for part := range slices.Chunk(all, toldAtOnce) {
				m.r.Ask(m.whomTold(old, new, part))
			}
		})
	}
	return s.ask, nil
}

// whomTold is the question. Whoever could answer it falsely could as well tell nobody: it changes nothing but what the owner is shown.
func (m *Moved) whomTold(old, new xmpp.JID, part []xmpp.JID) xmpp.Ask {
	x := xmpp.NewXMLNS("told", nsTold)
	for _, j := range part {
		x.Open("contact", "").Attr("jid", j.String()).Close()
	}
	return xmpp.Ask{From: new, To: old, Type: "get", Timeout: m.opt.Timeout, Payload: x.Bytes(), Done: func(reply *xmpp.Request) {
		if reply == nil || !m.trusted(old, reply.Peer) {
			return
		}
		if _, permanent := errorOf(reply.Node()); permanent { // it is no box; somebody there has to tell them
			m.mu.Lock()
			if s := m.runs[new]; s != nil {
				s.unknown = true
			}
			m.mu.Unlock()
			return
		}
		told := slices.DeleteFunc(contactsIn(reply.Stanza), func(j xmpp.JID) bool { return !slices.Contains(part, j) })
		m.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {
			for _, j := range told {
				Told(tx, new, j)
			}
			return nil
		}, nil)
	}}
}
