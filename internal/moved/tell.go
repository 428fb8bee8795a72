package moved

import (
	"cmp"
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// meeting is how long a contact who moved himself has to let the old address in, before the new one asks him: so that his home can prove the claim.
const meeting = 10 * time.Minute

// due is when a contact may be told. turn: only others of his server are before him.
func (m *Moved) due(tx *store.Tx, job store.MoveJob, who xmpp.JID, c store.MoveContact) (at time.Time, turn bool) {
	now := time.Now()
	if c.From != "" {
		// He moved himself, and the old address asks him for his presence: his answer is what lets him verify us.
		old, err := xmpp.ParseJID(job.Old)
		if item, ok := m.needs.Roster.Item(tx, old, who); err == nil && ok && item.Ask && now.Before(c.Since.Add(meeting)) {
			return c.Since.Add(meeting), false
		}
	}
	if until, ok := awaits(tx, job, who, c); ok {
		return until, false
	}
	if m.r.IsLocal(who.Domain) || c.Member != "" || (!c.Sub.To() && !c.Ask) {
		return now, false
	}
	new, err := xmpp.ParseJID(job.New)
	if err != nil {
		return now, false
	}
	return m.pace.when(now, new, who.Domain), true
}

// early enters a contact who waits for his turn: he is in the contact list, and may ask for himself.
func (m *Moved) early(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, who xmpp.JID, c store.MoveContact) error {
	old, err := xmpp.ParseJID(job.Old)
	if err != nil {
		return err
	}
	was, _ := m.needs.Roster.Item(tx, new, who)
	approves := c.Sub.From() && !was.Sub.From() && !m.blocked(tx, new, who) && !m.blocked(tx, old, who)
	m.enter(tx, out, new, who, &c, false, approves)
	c.Entered = true
	store.MoveContacts.Put(tx, store.Key(job.New, who.String()), c)
	return m.approveWaiting(tx, out, new, who, approves)
}

// approveWaiting lets in who had asked before the pre-approval was written, as one who moves himself at the same time.
func (m *Moved) approveWaiting(tx *store.Tx, out *xmpp.Out, new, who xmpp.JID, approves bool) error {
	p, waits := store.Pending.Get(tx, store.Key(new.String(), who.String()))
	if !waits || !approves || p.Verifying {
		return nil
	}
	return m.needs.Roster.Approve(tx, out, new, who)
}

// carry brings one contact over: roster item, push, and what he is asked or told, in one transaction.
func (m *Moved) carry(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, who xmpp.JID, c store.MoveContact) error {
	set := func(step store.MoveStep, failure string) {
		c.Step, c.Since, c.Failure = step, time.Now().UTC(), failure
		store.MoveContacts.Put(tx, store.Key(job.New, who.String()), c)
	}
	old, _, err := addresses(job)
	if err != nil {
		return err
	}
	if who == new || who == old {
		set(store.StepKept, "this is the account itself")
		return nil
	}
	if err := m.fits(tx, new, who, c); err != nil {
		set(store.StepFailed, "not told: "+err.Error()+"; make room there, and add them by hand")
		return nil
	}
	if to, err := xmpp.ParseJID(c.Member); err == nil && c.Member != "" && m.says(tx, who, to) {
		// He moved before, and the old contact list holds his new address in its own right: he is asked there, with the claim, which his
		// list, too, needs to let the old address go. What the old list says of his old address is only what was left of it.
		if own, ok := store.MoveContacts.Get(tx, store.Key(job.New, to.String())); ok && own.From == "" && own.Sub.To() {
			m.successor(tx, job, who, to)
			return nil
		}
	}
	if c.Member != "" {
		if done, err := m.meet(tx, out, job, who, c); done || err != nil {
			return err
		}
	}
	if to, ok := m.movedHere(tx, old, who); ok {
		set(store.StepMoved, "")
		m.successor(tx, job, who, to)
		return nil
	}
	was, listed := m.needs.Roster.Item(tx, new, who)
	if c.Entered && !listed {
		set(store.StepDropped, "")
		return nil
	}
	if m.r.IsLocal(who.Domain) && who.Local != "" && !store.Accounts.Has(tx, who.String()) {
		m.enter(tx, out, new, who, &c, false, false)
		set(store.StepFailed, "there is no such account on this box")
		return nil
	}
	if m.blocked(tx, new, who) || m.blocked(tx, old, who) {
		m.enter(tx, out, new, who, &c, false, false)
		set(store.StepKept, "blocked: not told")
		return nil
	}
	return m.introduce(tx, out, job, new, who, c, was)
}

// introduce writes a contact's item at the new address, and lets him be asked or told.
func (m *Moved) introduce(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, who xmpp.JID, c store.MoveContact, was store.RosterItem) error {
	asks := (c.Sub.To() || c.Ask) && !was.Sub.To()
	approves := c.Sub.From() && !was.Sub.From()
	m.enter(tx, out, new, who, &c, asks, approves)
	c.Step, c.Since, c.Failure = store.StepKept, time.Now().UTC(), ""
	switch {
	case asks:
		c.Step = store.StepAsked
	case was.Sub.To() && (c.Sub.To() || c.Ask):
		c.Step = store.StepFollowed
	}
	store.MoveContacts.Put(tx, store.Key(job.New, who.String()), c)
	if err := m.approveWaiting(tx, out, new, who, approves); err != nil {
		return err
	}
	if err := m.carryPending(tx, out, new, who, &c); err != nil {
		return err
	}
	if c.Carried {
		store.MoveContacts.Put(tx, store.Key(job.New, who.String()), c)
	}
	if asks {
		m.request(tx, out, job, new, who, c)
	}
	if c.Sub == store.SubFrom && approves && who.Local != "" {
		return m.tellByOld(tx, out, job, new, who)
	}
	return nil
}

// fits tells whether the new roster, which may have had contacts before, takes one more: as the member whom he becomes, if he moves as well.
func (m *Moved) fits(tx *store.Tx, new, who xmpp.JID, c store.MoveContact) error {
	if member, err := xmpp.ParseJID(c.Member); err == nil {
		who = member
	}
	item, listed := m.needs.Roster.Item(tx, new, who)
	if listed || c.Sub == "" {
		return nil // what is there stays, whatever name it gets; who only asks has no item
	}
	item.Name, item.Groups = c.Name, c.Groups
	return m.needs.Roster.Fits(tx, new, who, item)
}

// enter writes the contact's roster item: an item that is there stays what it is, and nobody becomes a subscriber by it.
func (m *Moved) enter(tx *store.Tx, out *xmpp.Out, new, who xmpp.JID, c *store.MoveContact, asks, approves bool) {
	item, listed := m.needs.Roster.Item(tx, new, who)
	if !listed && c.Pending != nil && c.Sub == "" {
		return // only a request waited: that makes no item (RFC 6121 §3.1.3)
	}
	if !c.Entered { // what the owner changed since is his word
		c.Made = c.Made || !listed
		if item.Name == "" {
			item.Name = c.Name
		}
		if len(item.Groups) == 0 {
			item.Groups = slices.Clone(c.Groups)
		}
	}
	if asks {
		item.Ask = true
	}
	if approves && !item.Approved && !c.Entered {
		item.Approved, c.PreApproved = true, true
	}
	m.needs.Roster.Put(tx, out, new, who, item)
}

// request sends the subscription request. Its claim is what the contact's home can verify: that he let the old address see him. Where he did not, or
// where there is no person behind the address, the request is a plain one.
func (m *Moved) request(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, who xmpp.JID, c store.MoveContact) {
	if !m.r.IsLocal(who.Domain) {
		out.After(func() { m.pace.take(time.Now(), new, who.Domain) })
	}
	m.outbox.Send(tx, out, "subscribe", new, who, m.claim(job, who, c)...)
}

// claim is what a request to a contact holds.
func (m *Moved) claim(job store.MoveJob, who xmpp.JID, c store.MoveContact) [][]byte {
	old := cmp.Or(c.Claim, job.Old)
	lang := m.boxLanguage()
	all := [][]byte{xmpp.NewXML("status").Attr("xml:lang", lang).Text(sayMoved(lang, old, job.New)).Bytes()}
	if c.Sub.To() && who.Local != "" {
		all = append(all, xmpp.NewXMLNS("moved", NS).Leaf("old-jid", "", old).Bytes())
	}
	return all
}

// carryPending shows the owner, at the new address, a request that waited at the old one.
func (m *Moved) carryPending(tx *store.Tx, out *xmpp.Out, new, who xmpp.JID, c *store.MoveContact) error {
	item, _ := m.needs.Roster.Item(tx, new, who)
	if c.Pending == nil || c.Carried || item.Sub.From() || store.Pending.Has(tx, store.Key(new.String(), who.String())) {
		return nil
	}
	st, err := xmpp.ParseStanza(c.Pending)
	if err != nil || st.Kind != xmpp.Presence || st.Type != "subscribe" {
		c.Failure = "the request that waited can not be read"
		return nil
	}
	st = st.Addressed(who, new)
	if err := m.needs.Roster.CanKeep(tx, st); err != nil {
		c.Failure = "the request that waited can not be kept: " + err.Error()
		return nil
	}
	c.Carried = true
	return m.needs.Roster.InboundRequest(tx, out, &xmpp.Request{Stanza: st, Router: m.r, Class: xmpp.ToAccount})
}

// tellByOld tells a contact who only sees the owner, in a message from the address that he knows: there is no automatic way.
func (m *Moved) tellByOld(tx *store.Tx, out *xmpp.Out, job store.MoveJob, new, who xmpp.JID) error {
	key := store.Key(job.New, who.String())
	c, _ := store.MoveContacts.Get(tx, key)
	from, err := xmpp.ParseJID(cmp.Or(c.Claim, job.Old))
	if err != nil {
		return err
	}
	was := c
	acc, ok := store.Accounts.Get(tx, from.String())
	switch here := m.r.IsLocal(from.Domain) && ok && acc.Closed == nil; {
	case c.Told:
	case !here:
		c.ToTell = true
	default:
		lang := m.boxLanguage()
		x := xmpp.NewXML("message").Attr("type", "chat").Attr("from", from.String()).Attr("to", who.String()).Attr("id", newMessageID()).Attr("xml:lang", lang)
		if err := m.needs.Messages.Say(tx, out, xmpp.Make(x.Leaf("body", "", sayMoved(lang, from.String(), new.String())).Bytes())); err != nil {
			return err
		}
		c.Told = true
	}
	// Who is asked as well stays at that.
	if c.Step == store.StepKept || c.Step == store.StepToTell || c.Step == store.StepWaiting && !c.Ask {
		c.Step = store.StepTold
		if !c.Told {
			c.Step, c.ToTell = store.StepToTell, false
		}
	}
	if c.Step != was.Step {
		c.Since = time.Now().UTC()
	}
	if c.Step != was.Step || c.Told != was.Told || c.ToTell != was.ToTell {
		store.MoveContacts.Put(tx, key, c)
	}
	return nil
}

// Words are what a contact reads of a move whose server or client knows nothing of moves, in the box's language.
func (m *Moved) Words(old, new xmpp.JID) (language, text string) {
	lang := m.boxLanguage()
	return lang, sayMoved(lang, old.String(), new.String())
}

// Resend is a request that the roster sends again of its own accord: with the claim, and not where the outbox does.
func (m *Moved) Resend(tx *store.Tx, st *xmpp.Stanza) *xmpp.Stanza {
	job, ok := store.MoveJobs.Get(tx, st.From.String())
	c, known := store.MoveContacts.Get(tx, store.Key(st.From.String(), st.To.String()))
	if !ok || !known || c.Step != store.StepAsked {
		return st
	}
	if _, waits := m.outbox.waiting(tx, st.From.String())[st.To.String()]; waits || store.Held(tx) || job.State != store.MoveRunning {
		return nil
	}
	x := xmpp.NewXML("presence").Attr("type", "subscribe").Attr("id", st.ID).Attr("from", st.From.String()).Attr("to", st.To.String())
	for _, child := range m.claim(job, st.To, c) {
		x.Raw(child)
	}
	return xmpp.Make(x.Bytes())
}
