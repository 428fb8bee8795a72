package moved

import (
	"cmp"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// progressed notes what a change in the new account's roster means for its job. byContact: the contact made it so.
func (m *Moved) progressed(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, was, now store.RosterItem, byContact bool) {
	key := store.Key(account.String(), contact.String())
	c, ok := store.MoveContacts.Get(tx, key)
	m.metOld(tx, out, account, contact, was, now)
	if !ok {
		return
	}
	if c.Carried && !was.Sub.From() && now.Sub.From() && !byContact && !c.Sub.From() {
		m.approvedCarried(tx, out, account, contact, key)
		return
	}
	step := c.Step
	switch {
	case c.Step == store.StepWaiting || !open(c.Step) && c.Step != store.StepRefused && c.Step != store.StepFailed:
		return
	case now.Sub.To() && !was.Sub.To():
		step = store.StepFollowed
	case (c.Step == store.StepTold || c.Step == store.StepToTell) && now.Sub.From() && !was.Sub.From():
		step = store.StepFollowed
	case c.Step == store.StepAsked && was.Ask && !now.Ask && byContact:
		step = store.StepRefused
	case c.Step == store.StepAsked && was.Ask && !now.Ask:
		step = store.StepDropped
	}
	if step != c.Step {
		c.Step, c.Since, c.Failure = step, time.Now().UTC(), ""
		store.MoveContacts.Put(tx, key, c)
		out.After(func() { m.kick(account) })
	}
}

// approvedCarried: the owner approved a request that waited at the old address. Who made it knows only that one, and his server knows of no request
// to the new one: he is told where to ask. Before the approval he is told nothing.
func (m *Moved) approvedCarried(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, key string) {
	job, ok := store.MoveJobs.Get(tx, account.String())
	c, _ := store.MoveContacts.Get(tx, key)
	c.Carried, c.Pending = false, nil
	store.MoveContacts.Put(tx, key, c)
	if !ok || contact.Local == "" {
		return
	}
	if err := m.tellByOld(tx, out, job, account, contact); err != nil {
		m.opt.Log.Error("moved: telling a contact", "error", err)
	}
}

// deniedCarried: the owner denied, at the new address, a request that was made to the old one. What ends it for who asked is the denial of the address that
// he asked (RFC 6121 §3.2.3): that of the new one means nothing to his server. Where the old address is elsewhere, nobody here can send it.
func (m *Moved) deniedCarried(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) {
	job, ok := store.MoveJobs.Get(tx, account.String())
	c, _ := store.MoveContacts.Get(tx, store.Key(account.String(), contact.String()))
	if !ok || !c.Carried || !store.Accounts.Has(tx, account.String()) {
		return
	}
	old, err := xmpp.ParseJID(cmp.Or(c.Claim, job.Old))
	if acc, there := store.Accounts.Get(tx, old.String()); err == nil && there && acc.Closed == nil && m.r.IsLocal(old.Domain) {
		m.needs.Roster.Deny(tx, out, old, contact)
	}
}

// metOld: a contact who moved himself let the old address in, so he can verify the new one now.
func (m *Moved) metOld(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, was, now store.RosterItem) {
	if was.Sub.To() || !now.Sub.To() {
		return
	}
	if job, ok := jobFrom(tx, account.String()); ok {
		if c, _ := store.MoveContacts.Get(tx, store.Key(job.New, contact.String())); c.From != "" && c.Step == store.StepWaiting {
			m.reopen(tx, out, job)
		}
	}
}

// leftOld: a contact gave up the old address of an account that moves to another server. That is all that the old home sees of his following.
func (m *Moved) leftOld(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) {
	job, ok := jobFrom(tx, account.String())
	key := store.Key(job.New, contact.String())
	c, known := store.MoveContacts.Get(tx, key)
	if !ok || !known || !job.Outside || !open(c.Step) {
		return
	}
	c.Step, c.Since, c.Failure = store.StepFollowed, time.Now().UTC(), ""
	store.MoveContacts.Put(tx, key, c)
	m.reopen(tx, out, job)
}

// unreached: the outbox gave a request up.
func (m *Moved) unreached(tx *store.Tx, out *xmpp.Out, e store.OutboxEntry) {
	st, err := xmpp.ParseStanza(e.Stanza)
	if err != nil || st.Type != "subscribe" {
		return
	}
	m.failed(tx, out, st.From, st.To, "their server could not be reached for 60 days")
}

// failed ends the attempts for a contact.
func (m *Moved) failed(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, why string) {
	key := store.Key(account.String(), contact.String())
	c, ok := store.MoveContacts.Get(tx, key)
	if !ok || c.Step != store.StepAsked {
		return
	}
	c.Step, c.Since, c.Failure = store.StepFailed, time.Now().UTC(), why
	store.MoveContacts.Put(tx, key, c)
	if item, ok := m.needs.Roster.Item(tx, account, contact); ok && item.Ask {
		item.Ask = false
		m.needs.Roster.Put(tx, out, account, contact, item)
	}
	out.After(func() { m.kick(account) })
}

// answeredError is an inbound filter that lets everything through: a contact's server may say that there is nobody to ask.
func (m *Moved) answeredError(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Presence || rq.Type != "error" || rq.Peer == nil || rq.Peer.Domain != rq.From.Domain || !rq.From.IsBare() {
		return false, nil
	}
	condition, permanent := errorOf(rq.Node())
	if _, gone := goneTo(rq.Node()); gone || !permanent {
		return false, nil
	}
	account, contact := rq.Account(), rq.From
	waits := false
	if err := rq.View(func(tx *store.Tx) error {
		c, _ := store.MoveContacts.Get(tx, store.Key(account.String(), contact.String()))
		waits = c.Step == store.StepAsked
		return nil
	}); err != nil || !waits {
		return false, err
	}
	m.r.Submit(256, func(tx *store.Tx, out *xmpp.Out) error {
		m.failed(tx, out, account, contact, "their server answered: "+condition)
		return nil
	}, nil)
	return false, nil
}

// maxCondition bounds what is kept of a condition, in bytes; those of RFC 6120 have 23.
const maxCondition = 40

// errorOf is the condition of a stanza error, and whether repeating makes no sense (RFC 6120 §8.3.2).
func errorOf(n *frame.Node) (condition string, permanent bool) {
	e := n.Child(xmpp.NSClient, "error")
	if e == nil {
		return "", false
	}
	for _, c := range e.Children {
		if c.NS == xmpp.NSStanzas && c.Name != "text" {
			condition = strings.ReplaceAll(c.Name[:min(len(c.Name), maxCondition)], "-", " ")
		}
	}
	return condition, condition != "" && (e.Attr("type") == "cancel" || e.Attr("type") == "auth" || e.Attr("type") == "modify")
}
