package moved

import (
	"iter"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// The moved node is the PEP node of the statement; the PEP feature calls these for it, in its transactions.

// Publish checks a statement that an account publishes and begins the forwarding. It is called before the item is
// stored; an error refuses the item.
func (m *Moved) Publish(tx *store.Tx, out *xmpp.Out, account xmpp.JID, id string, payload *frame.Node) error {
	to, ok := newJID(payload)
	switch {
	case id != "current":
		return xmpp.Errorf(stanza.BadRequest, "a moved statement is the item \"current\"")
	case !ok:
		return xmpp.Errorf(stanza.BadRequest, "a moved statement holds one new-jid with a bare address")
	case to == account:
		return xmpp.Errorf(stanza.BadRequest, "an account can not move to itself")
	}
	if mv, again := store.Moves.Get(tx, account.String()); again && mv.To == to.String() {
		return nil // repeated: nothing changes, nobody is told twice
	}
	acc, _ := store.Accounts.Get(tx, account.String())
	if acc.Restricted {
		return xmpp.Errorf(stanza.Forbidden, "this account may not announce a move; ask whoever runs this box")
	}
	m.forwards(tx, out, account, to)
	m.strayed(tx, account.String(), to.String())
	return nil
}

// forwards begins the forwarding of an account, and tells its owner.
func (m *Moved) forwards(tx *store.Tx, out *xmpp.Out, account, to xmpp.JID) {
	now := time.Now()
	mv, _ := store.Moves.Get(tx, account.String())
	mv.To = to.String()
	if mv.Closed {
		store.Moves.Put(tx, account.String(), mv)
		return
	}
	mv.Published, mv.Visible = now, now.Add(m.opt.StatementDelay)
	m.freeze(tx, account, &mv, anySub)
	store.Moves.Put(tx, account.String(), mv)
	m.needs.Inbox.Queue(tx, out, account, m.noticeAnnounced(account, to))
	m.kickLeavers(tx, out, account)
	if m.opt.StatementDelay > 0 {
		out.After(func() { m.serveAt(account, mv.Visible) })
	}
}

// serveAt tells who listens of a delayed statement when its time has come. What a stop prevents is made up for: a statement that is served is
// read, and comes with presence, without it.
func (m *Moved) serveAt(account xmpp.JID, at time.Time) {
	time.AfterFunc(time.Until(at), func() {
		m.mu.Lock()
		stopped := m.stopped
		m.mu.Unlock()
		if stopped {
			return
		}
		m.r.Submit(256, func(tx *store.Tx, out *xmpp.Out) error {
			if mv, ok := store.Moves.Get(tx, account.String()); ok && mv.Visible.Equal(at) && !mv.Closed {
				m.needs.Events.SendLast(tx, out, account, NS)
			}
			return nil
		}, nil)
	})
}

// Retract ends a move that was announced: the item or the node is gone.
func (m *Moved) Retract(tx *store.Tx, out *xmpp.Out, account xmpp.JID) {
	if !store.Moves.Has(tx, account.String()) {
		return
	}
	store.Moves.Delete(tx, account.String())
	m.strayed(tx, account.String(), "")
	m.needs.Inbox.Queue(tx, out, account, m.noticeCancelled(account))
}

// freeze adds contacts to the readers: who revokes later may still verify.
func (m *Moved) freeze(tx *store.Tx, account xmpp.JID, mv *store.Move, reads func(store.Subscription) bool) {
	for contact, item := range contacts(tx, account) {
		if reads(item.Sub) && !slices.Contains(mv.Readers, contact) {
			mv.Readers = append(mv.Readers, contact)
		}
	}
}

// contacts are the items of an account's roster.
func contacts(tx *store.Tx, account xmpp.JID) iter.Seq2[string, store.RosterItem] {
	prefix := store.Key(account.String(), "")
	return func(yield func(string, store.RosterItem) bool) {
		for key, item := range store.Roster.All(tx, account.String()) {
			if !item.Removed && !yield(strings.TrimPrefix(key, prefix), item) {
				return
			}
		}
	}
}

func anySub(s store.Subscription) bool { return s.To() || s.From() }

// CanRead tells whether somebody whom the node's own access model (presence) does not let in may get the statement's item all the same:
// the contacts at publication, the bare domain of their server, and the new address; never who is blocked.
func (m *Moved) CanRead(tx *store.Tx, account, who xmpp.JID) bool {
	mv, ok := store.Moves.Get(tx, account.String())
	return ok && m.isReader(tx, mv, account, who, true)
}

// Served tells whether the statement may be seen by others yet.
func (m *Moved) Served(tx *store.Tx, account xmpp.JID) bool {
	mv, ok := store.Moves.Get(tx, account.String())
	return ok && !time.Now().Before(mv.Visible)
}

// isReader tells whether somebody was a contact at publication, is a presence subscriber today, or is the new address itself, whose home asks
// before it tells anybody; servers: the bare domain of a contact's server counts too.
func (m *Moved) isReader(tx *store.Tx, mv store.Move, account, who xmpp.JID, servers bool) bool {
	if m.needs.Blocks.Blocked(tx, account, who) {
		return false
	}
	if who.Local != "" {
		item, _ := m.needs.Roster.Item(tx, account, who.Bare())
		return item.Sub.From() || slices.Contains(mv.Readers, who.Bare().String()) || who.Bare().String() == mv.To
	}
	if !servers || !who.IsBare() {
		return false
	}
	there := func(reader string) bool {
		j, err := xmpp.ParseJID(reader)
		return err == nil && j.Domain == who.Domain && !m.blocked(tx, account, j)
	}
	if slices.ContainsFunc(mv.Readers, there) {
		return true
	}
	for contact, item := range contacts(tx, account) {
		if item.Sub.From() && there(contact) {
			return true
		}
	}
	return false
}

// ContactLeft records that a contact revoked its subscription to an account that moved: the progress of the move (XEP-0283 §impl-lifetime).
func (m *Moved) ContactLeft(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID) {
	m.leftOld(tx, out, account, contact)
	mv, ok := store.Moves.Get(tx, account.String())
	if !ok || !slices.Contains(mv.Readers, contact.String()) {
		return
	}
	if mv.Left == nil {
		mv.Left = map[string]time.Time{}
	}
	if _, done := mv.Left[contact.String()]; !done {
		mv.Left[contact.String()] = time.Now()
		store.Moves.Put(tx, account.String(), mv)
	}
}

// join lets a contact who moved while this account moves read its statement under the new, verified address, so that the two
// find each other.
func (m *Moved) join(tx *store.Tx, account, contact xmpp.JID) {
	mv, ok := store.Moves.Get(tx, account.String())
	if ok && contact != account && !slices.Contains(mv.Readers, contact.String()) {
		mv.Readers = append(mv.Readers, contact.String())
		store.Moves.Put(tx, account.String(), mv)
	}
}

// heardGone is an inbound filter that lets everything through: a contact whose account was closed may have answered, to whatever the account
// sent, where he went.
func (m *Moved) heardGone(rq *xmpp.Request) (drop bool, err error) {
	m.gone(rq.Account(), rq)
	return false, nil
}

// gone lets a contact who answered where he went join the account's own move. What proves it is what proves a statement (row 6).
func (m *Moved) gone(account xmpp.JID, rq *xmpp.Request) {
	if rq.Type != "error" || !m.trusted(rq.From, rq.Peer) {
		return
	}
	to, ok := goneTo(rq.Node())
	if !ok {
		return
	}
	old := rq.From.Bare()
	m.r.Submit(256, func(tx *store.Tx, out *xmpp.Out) error {
		m.contactMoved(tx, out, account, old, to, true)
		mv, ok := store.Moves.Get(tx, account.String())
		item, _ := m.needs.Roster.Item(tx, account, old)
		if !ok || !anySub(item.Sub) || !m.isReader(tx, mv, account, old, false) || mv.Gone[old.String()] != "" {
			return nil // one address for each contact: anybody can send such an error as often as he likes
		}
		if mv.Gone == nil {
			mv.Gone = map[string]string{}
		}
		mv.Gone[old.String()] = to.String()
		store.Moves.Put(tx, account.String(), mv)
		m.join(tx, account, to)
		return nil
	}, nil)
}

// Close closes an account that moved, by its owner's explicit act: nobody logs in any more, and its readers are told where
// it went. The caller ends its sessions and removes what else it kept, the block list too: who is on it is no reader from now on.
func (m *Moved) Close(tx *store.Tx, account xmpp.JID) error {
	mv, ok := store.Moves.Get(tx, account.String())
	if !ok {
		return xmpp.Errorf(stanza.UnexpectedRequest, "%s has not announced a move: publish a moved statement first", account)
	}
	m.freeze(tx, account, &mv, store.Subscription.From)
	mv.Readers = slices.DeleteFunc(mv.Readers, func(reader string) bool {
		j, err := xmpp.ParseJID(reader)
		return err != nil || m.blocked(tx, account, j)
	})
	mv.Closed = true
	store.Moves.Put(tx, account.String(), mv)
	if job, _ := store.MoveJobs.Get(tx, mv.To); m.inherits(tx, job, account) {
		store.InheritLog(tx, job.New, account.String(), heirPiece) // what came behind InheritRest
	}
	return nil
}

// forward answers for closed accounts that left a forwarding address, as the inbound filter (RFC 6120 §8.3.3.5). Strangers get what an
// unknown account gets.
func (m *Moved) forward(rq *xmpp.Request) (drop bool, err error) {
	if rq.Class != xmpp.ToNobody || !asks(rq.Stanza) {
		return false, nil
	}
	var gone *xmpp.StanzaError
	err = rq.View(func(tx *store.Tx) error {
		account := rq.Account()
		mv, ok := store.Moves.Get(tx, account.String())
		if !ok || !mv.Closed || !m.isReader(tx, mv, account, rq.From, rq.Kind == xmpp.IQ) {
			return nil
		}
		to, err := xmpp.ParseJID(mv.To)
		if err == nil {
			gone = &xmpp.StanzaError{Type: stanza.Cancel, Condition: stanza.Gone, Value: uri(to)}
		}
		return err
	})
	if gone != nil {
		err = gone
	}
	return false, err
}

// asks tells the stanzas that a forwarding address answers: never an error, a result, or presence that tells instead of asking.
func asks(st *xmpp.Stanza) bool {
	switch st.Kind {
	case xmpp.IQ:
		return st.IsRequest()
	case xmpp.Message:
		return st.Type != "error"
	case xmpp.Presence:
		return st.Type == "subscribe" || st.Type == "probe"
	}
	return false
}
