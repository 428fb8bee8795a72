package roster

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// outbound is what a client does to a subscription (RFC 6121 §3.1.2, §3.1.5, §3.2.2, §3.3.2, §3.4.2; Appendix A.2). The state is written before the
// stanza is routed, because a local contact answers in the same transaction.
func (ro *Roster) outbound(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	account, who := rq.Session.JID.Bare(), rq.To.Bare()
	st := rq.Addressed(account, who)
	old := load(tx, account, who)
	now := old
	switch rq.Type {
	case "subscribe":
		if !now.Sub.To() {
			now.Ask, now.listed = true, true
		}
	case "unsubscribe":
		now.Ask = false
		now.setTo(false)
	case "subscribed":
		return ro.approve(tx, out, st, old)
	case "unsubscribed":
		ro.cancel(tx, out, st, old)
		return nil
	}
	if err := ro.room(tx, account, who, old, now); err != nil {
		return err
	}
	ro.apply(tx, out, account, who, old, now)
	out.Send(st) // also where nothing changed: it may set right what the contact's server has lost
	return nil
}

// approve lets a contact see the account's presence (RFC 6121 §3.1.5), now or when he asks (§3.4.2). Only the former is told to him.
func (ro *Roster) approve(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, old contact) error {
	if old.Sub.From() {
		return nil
	}
	now := old
	now.listed = true
	if err := ro.room(tx, st.From, st.To, old, now); err != nil {
		return err
	}
	if !old.pending {
		now.Approved = true
		ro.apply(tx, out, st.From, st.To, old, now)
		return nil
	}
	now.grant()
	ro.apply(tx, out, st.From, st.To, old, now)
	ro.answer(tx, out, st, false)
	ro.presence.Announce(out, st.From, st.To)
	return nil
}

// Approve lets a contact see an account's presence, as its client does with "subscribed": now where his request waits, else when he asks.
func (ro *Roster) Approve(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID) error {
	return ro.approve(tx, out, subscription("subscribed", pushID(), account, who), load(tx, account, who))
}

// Deny denies a request that awaits an account's answer, as its client does with "unsubscribed". Without one that is shown it does nothing.
func (ro *Roster) Deny(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID) {
	if old := load(tx, account, who); old.pending && !old.hidden {
		ro.cancel(tx, out, subscription("unsubscribed", pushID(), account, who), old)
	}
}

// grant is the state after an approval. A pre-approval is used up by it.
func (c *contact) grant() {
	c.setFrom(true)
	c.listed, c.pending, c.hidden, c.Approved = true, false, false, false
}

// cancel ends a contact's subscription, denies his request, or takes a pre-approval back, which he is not told (RFC 6121 §3.2.2).
func (ro *Roster) cancel(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, old contact) {
	now := old
	now.setFrom(false)
	now.Approved, now.pending, now.hidden = false, false, false
	if old.Sub.From() {
		ro.presence.Withdraw(out, st.From, st.To)
	}
	ro.apply(tx, out, st.From, st.To, old, now)
	if old.Sub.From() || old.pending {
		ro.answer(tx, out, st, old.pending)
	}
}

// answer sends what ends a request, or a subscription: nobody but the other side's server could make up for it, so that it has to arrive.
// denies tells that a request waited.
func (ro *Roster) answer(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, denies bool) {
	if ro.onAnswer == nil || ro.r.IsLocal(st.To.Domain) {
		out.Send(st)
		return
	}
	ro.onAnswer(tx, out, st, denies)
}

// inbound is what a contact does to a subscription (RFC 6121 §3.1.3, §3.1.6, §3.2.3, §3.3.3; Appendix A.3).
func (ro *Roster) inbound(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	account, who := rq.Account(), rq.From.Bare()
	if who == account {
		return nil // everybody sees his own presence anyway
	}
	st := rq.Addressed(who, account)
	old := load(tx, account, who)
	switch rq.Type {
	case "subscribe":
		return ro.requested(tx, out, st, old)
	case "unsubscribe":
		ro.left(tx, out, st, old)
		return nil
	}
	now := old
	if rq.Type == "subscribed" && !old.Ask || rq.Type == "unsubscribed" && !old.Ask && !old.Sub.To() {
		return nil // nothing changes, so nobody is told
	}
	now.Ask = false
	now.theirs = true
	now.setTo(rq.Type == "subscribed")
	ro.deliver(out, st)
	ro.apply(tx, out, account, who, old, now)
	return nil
}

// InboundRequest does what RFC 6121 §3.1.3 does with a subscription request that is addressed to an account.
func (ro *Roster) InboundRequest(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	account, who := rq.Account(), rq.From.Bare()
	if who == account {
		return nil
	}
	return ro.requested(tx, out, rq.Addressed(who, account), load(tx, account, who))
}

func (ro *Roster) requested(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, old contact) error {
	account, who := st.To, st.From
	switch {
	case old.Sub.From():
	case old.Approved:
		now := old
		now.grant()
		ro.apply(tx, out, account, who, old, now)
	case old.pending:
		return nil // asked already: one question is enough (§3.1.3 rule 4)
	default:
		return ro.keep(tx, out, st, old)
	}
	out.Send(subscription("subscribed", st.ID, account, who))
	ro.presence.Announce(out, account, who)
	return nil
}

// left is a contact who does not want to see the account's presence any more, or takes his request back (RFC 6121 §3.3.3).
func (ro *Roster) left(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, old contact) {
	account, who := st.To, st.From
	if !old.Sub.From() && !old.pending {
		return
	}
	now := old
	now.setFrom(false)
	now.pending, now.hidden, now.theirs = false, false, true
	if !old.hidden { // nobody was asked, so nobody is told
		ro.deliver(out, st)
	}
	ro.apply(tx, out, account, who, old, now)
	if old.Sub.From() {
		ro.presence.Withdraw(out, account, who)
	}
	out.Send(subscription("unsubscribed", st.ID, account, who))
}

// deliver brings a subscription stanza other than a request to the interested resources (RFC 6121 §3.1.6, §3.2.3, §3.3.3). It is called
// before the push is queued.
func (ro *Roster) deliver(out *xmpp.Out, st *xmpp.Stanza) {
	out.After(func() {
		for _, s := range ro.r.Sessions(st.To) {
			if s.Marked(interested) {
				s.Deliver(st)
			}
		}
	})
}
