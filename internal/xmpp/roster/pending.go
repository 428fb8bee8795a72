package roster

import (
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// keep stores a request, whole, until the account answers, and shows it to the available resources (RFC 6121 §3.1.3 rules 3 and 4).
func (ro *Roster) keep(tx *store.Tx, out *xmpp.Out, st *xmpp.Stanza, old contact) error {
	account, who := st.To, st.From
	if err := ro.CanKeep(tx, st); err != nil {
		return err
	}
	p := store.PendingIn{Stanza: st.Raw, Received: time.Now().UTC()}
	store.Pending.Put(tx, key(account, who), p)
	out.After(func() {
		for _, s := range ro.r.Available(account) {
			ro.show(s, st, p.Received)
		}
	})
	now := old
	now.pending = true
	ro.changed(tx, out, account, who, old, now)
	return nil
}

// crowded tells whether there is no place for one more request. No domain may take all of them from the others.
func (ro *Roster) crowded(tx *store.Tx, account, who xmpp.JID) bool {
	all := store.Pending.Count(tx, account.String())
	if all < ro.opt.MaxPending/2 || all >= ro.opt.MaxPending {
		return all >= ro.opt.MaxPending
	}
	same := 0
	for k := range store.Pending.All(tx, account.String()) {
		j, err := xmpp.ParseJID(strings.TrimPrefix(k, store.Key(account.String(), "")))
		if err == nil && j.Domain == who.Domain {
			same++
		}
	}
	return same >= max(1, ro.opt.MaxPending/2)
}

// CanKeep tells whether a subscription request can be kept until it is answered; its error is what the sender is to be told.
func (ro *Roster) CanKeep(tx *store.Tx, st *xmpp.Stanza) error {
	account, who := st.To.Bare(), st.From.Bare()
	if len(st.Raw) > ro.opt.MaxRequest {
		return xmpp.Errorf(stanza.PolicyViolation, "a subscription request of more than %d bytes is not kept", ro.opt.MaxRequest)
	}
	if !store.Pending.Has(tx, key(account, who)) && ro.crowded(tx, account, who) {
		return xmpp.Errorf(stanza.ResourceConstraint, "too many subscription requests wait for this person")
	}
	return nil
}

// show delivers a request to a session that has not been shown it: it may learn of it at once from its initial presence and from
// the request's arrival.
func (ro *Roster) show(s *xmpp.Session, st *xmpp.Stanza, received time.Time) {
	ro.mu.Lock()
	seen := ro.shown[s]
	if seen == nil {
		seen = map[xmpp.JID]int64{}
		ro.shown[s] = seen
	}
	again := seen[st.From] == received.UnixNano()
	seen[st.From] = received.UnixNano()
	ro.mu.Unlock()
	if !again {
		s.Deliver(st)
	}
}

func (ro *Roster) unshow(account, who xmpp.JID) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for _, s := range ro.r.Sessions(account) {
		delete(ro.shown[s], who)
	}
}

func (ro *Roster) unbound(s *xmpp.Session) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	delete(ro.shown, s)
}

// online: a resource became available. It is shown the requests that await an answer (RFC 6121 §3.1.3 rule 4), and the account's own
// unanswered requests are sent again (§3.1.2).
func (ro *Roster) online(s *xmpp.Session, old, now *xmpp.Stanza) {
	if now == nil {
		ro.unbound(s) // the next initial presence shows them again
		return
	}
	if old != nil {
		return
	}
	account := s.JID.Bare()
	requests, asked, err := ro.waiting(account)
	if err != nil {
		ro.r.Log.Error("roster: reading what awaits an answer", "conn", s.ConnID, "error", err)
		return
	}
	for _, p := range requests {
		if ro.r.Admits(p.st) { // not of whom the account blocked since (XEP-0191 §3.3)
			ro.show(s, p.st, p.received)
		}
	}
	if len(asked) > 0 && ro.mayResend(account) {
		for _, to := range asked {
			ro.r.SendFor(s, to)
		}
	}
}

type request struct {
	st       *xmpp.Stanza
	received time.Time
}

// waiting reads the requests that an account is to be shown, and the contacts on other servers who have not answered its own.
func (ro *Roster) waiting(account xmpp.JID) (requests []request, asked []*xmpp.Stanza, err error) {
	err = ro.r.Store.View(func(tx *store.Tx) error {
		for _, p := range store.Pending.All(tx, account.String()) {
			if p.Verifying {
				continue
			}
			st, err := xmpp.ParseStanza(p.Stanza)
			if err != nil {
				return err
			}
			requests = append(requests, request{st, p.Received})
		}
		for k, item := range store.Roster.All(tx, account.String()) {
			if !item.Ask || item.Removed {
				continue
			}
			to, err := xmpp.ParseJID(strings.TrimPrefix(k, store.Key(account.String(), "")))
			if err != nil {
				return err
			}
			if st := ro.again(tx, account, to); st != nil {
				asked = append(asked, st)
			}
		}
		return nil
	})
	return requests, asked, err
}

// again is an unanswered request as it is sent once more; nil where somebody else sees to it.
func (ro *Roster) again(tx *store.Tx, account, to xmpp.JID) *xmpp.Stanza {
	if ro.r.IsLocal(to.Domain) {
		return nil
	}
	st := subscription("subscribe", pushID(), account, to)
	for _, f := range ro.onResend {
		if st = f(tx, st); st == nil {
			return nil
		}
	}
	return st
}

func (ro *Roster) mayResend(account xmpp.JID) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if last, ok := ro.resent[account]; ok && time.Since(last) < ro.opt.Resend {
		return false
	}
	ro.resent[account] = time.Now()
	return true
}
