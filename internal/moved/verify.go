package moved

import (
	"errors"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// claimKey is one claim: account's contact old says that he is new now.
type claimKey struct{ account, old, new xmpp.JID }

func (k claimKey) key() string { return store.Key(k.account.String(), k.new.String()) }

func parseClaimKey(key, old string) (k claimKey, ok bool) {
	account, new, ok := strings.Cut(key, "\x00")
	if !ok {
		return k, false
	}
	var err [3]error
	k.account, err[0] = xmpp.ParseJID(account)
	k.new, err[1] = xmpp.ParseJID(new)
	k.old, err[2] = xmpp.ParseJID(old)
	return k, err == [3]error{}
}

// arrive takes an inbound subscription request with <moved/> (rows 1 to 5). "Ordinary" is always the whole request, <moved/> included.
func (m *Moved) arrive(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	k := claimKey{account: rq.Account(), new: rq.From.Bare()}
	if m.blocked(tx, k.account, k.new) {
		return nil // row 1
	}
	var ok bool
	if k.old, ok = oldJID(rq.Stanza); !ok || k.new == k.account || !m.stands(tx, k) || !m.mayAsk(k) {
		return m.needs.Roster.InboundRequest(tx, out, rq)
	}
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	switch {
	case item.Sub.From() || item.Approved: // row 4
		if err := m.needs.Roster.InboundRequest(tx, out, rq); err != nil {
			return err
		}
	case m.needs.Roster.CanKeep(tx, rq.Stanza) != nil:
		return m.needs.Roster.InboundRequest(tx, out, rq) // which says why not
	default:
		p, waiting := store.Pending.Get(tx, k.key())
		// What was shown already stays shown, and is not asked twice; the newer request is kept, so that its claim is what counts.
		p = store.PendingIn{Stanza: rq.Raw, Received: time.Now().UTC(), Verifying: !waiting || p.Verifying}
		store.Pending.Put(tx, k.key(), p)
	}
	store.Claims.Put(tx, k.key(), store.Claim{Old: k.old.String(), Received: time.Now().UTC()})
	out.After(func() { m.verify(k) })
	return nil
}

// stands tells whether rows 1 and 3 let the claim through, as the transaction sees it: only who is in the roster, and not blocked, is
// ever asked about.
func (m *Moved) stands(tx *store.Tx, k claimKey) bool {
	old, ok := m.needs.Roster.Item(tx, k.account, k.old)
	return ok && old.Sub.From() && !m.blocked(tx, k.account, k.old)
}

// blocked tells whether an account blocks an address, its domain, or one of its resources (row 1).
func (m *Moved) blocked(tx *store.Tx, account, who xmpp.JID) bool {
	if m.needs.Blocks.Blocked(tx, account, who) {
		return true
	}
	full := store.Key(account.String(), who.String()) + "/"
	for key := range store.Blocks.From(tx, full, account.String()) {
		return strings.HasPrefix(key, full)
	}
	return false
}

// mayAsk tells whether another question is within the limits, or would join one that is under way.
func (m *Moved) mayAsk(k claimKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[k] != nil || m.room(k)
}

// question asks for the statement of a claim.
func (m *Moved) question(k claimKey, done func(reply *xmpp.Request)) xmpp.Ask {
	return xmpp.Ask{
		From: k.account, To: k.old, Type: "get", Timeout: m.opt.Timeout, Done: done,
		Payload: xmpp.NewXMLNS("pubsub", nsPubSub).Open("items", "").Attr("node", NS).Open("item", "").Attr("id", "current").Bytes(),
	}
}

// proves tells whether a reply proves the claim (rows 6 and 7). Id and addresses were compared by Router.Ask.
func (m *Moved) proves(k claimKey, reply *xmpp.Request) bool {
	if reply == nil || !m.trusted(k.old, reply.Peer) {
		return false
	}
	to, ok := target(reply.Stanza)
	return ok && to == k.new
}

// trusted: a stanza came over a stream that proves its sender's domain, or from this box about its own account. What our own side says
// of a server that it could not reach has no peer, and proves nothing.
func (m *Moved) trusted(from xmpp.JID, p *xmpp.Peer) bool {
	if p == nil {
		return m.r.IsLocal(from.Domain)
	}
	return p.Domain == from.Domain && (p.Proof == xmpp.ProofCertificate || (p.Proof == xmpp.ProofDialback && m.opt.AcceptDialback))
}

// ordinary makes a stored claim an ordinary request without asking.
func (m *Moved) ordinary(k claimKey) {
	m.r.Submit(512, func(tx *store.Tx, out *xmpp.Out) error {
		return m.settle(tx, out, k, false)
	}, func(err error) {
		if err != nil {
			m.later(k, err)
		}
	})
}

// later verifies a claim anew whose outcome could not be written, as on a full disk. After a stop the next start does.
func (m *Moved) later(k claimKey, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	m.opt.Log.Error("moved: the outcome of a verification could not be written", "error", err, "again in", m.opt.RetryMin)
	time.AfterFunc(m.opt.RetryMin, func() {
		m.mu.Lock()
		stopped := m.stopped
		m.mu.Unlock()
		if !stopped {
			m.verify(k)
		}
	})
}

// verify asks about a claim that is stored, at its arrival, at the start, or behind the conclusion of the one before; where it does not stand any
// more, or is over a limit, the request is ordinary.
func (m *Moved) verify(k claimKey) {
	var stored, asks bool
	if err := m.r.Store.View(func(tx *store.Tx) error {
		stored, asks = m.isClaimed(tx, k), m.stands(tx, k)
		return nil
	}); err != nil {
		m.later(k, err)
		return
	}
	if stored && (!asks || !m.query(k)) {
		m.ordinary(k)
	}
}

func (m *Moved) isClaimed(tx *store.Tx, k claimKey) bool {
	claim, ok := store.Claims.Get(tx, k.key())
	return ok && claim.Old == k.old.String()
}

// settle is the transaction at the end of a verification. What happened meanwhile (row 9) shows in what it reads: the claim, the pending
// request, blocks, and both roster items.
func (m *Moved) settle(tx *store.Tx, out *xmpp.Out, k claimKey, proven bool) error {
	if !m.isClaimed(tx, k) {
		return nil // cancelled, or another claim of the same sender took its place
	}
	store.Claims.Delete(tx, k.key())
	request, hidden, err := m.pendingClaim(tx, k)
	if err != nil {
		return err
	}
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	known := item.Sub.From()
	switch {
	case request == nil && !known:
		return nil // answered, withdrawn or removed meanwhile
	case m.blocked(tx, k.account, k.new):
		if hidden {
			store.Pending.Delete(tx, k.key())
		}
		return nil
	case proven && m.stands(tx, k) && m.fitsFollower(tx, k, known):
		return m.follow(tx, out, k, known)
	case !hidden:
		return nil // shown before this claim came, or answered
	}
	store.Pending.Delete(tx, k.key())
	err = m.needs.Roster.InboundRequest(tx, out, &xmpp.Request{Stanza: request, Router: m.r, Class: xmpp.ToAccount})
	var refused *xmpp.StanzaError
	if errors.As(err, &refused) {
		out.After(func() { m.r.Bounce(request, refused) })
		return nil
	}
	return err
}

// pendingClaim is the pending request of the new address, if it is this claim, and whether it is hidden from the user yet.
func (m *Moved) pendingClaim(tx *store.Tx, k claimKey) (st *xmpp.Stanza, hidden bool, err error) {
	p, ok := store.Pending.Get(tx, k.key())
	if !ok {
		return nil, false, nil
	}
	if st, err = xmpp.ParseStanza(p.Stanza); err != nil {
		return nil, false, err
	}
	if old, ok := oldJID(st); !ok || old != k.old {
		return nil, false, nil
	}
	return st, p.Verifying, nil
}

// ContactChanged is told of each change of a contact, in its transaction. A request that was denied or withdrawn, and a contact who was
// removed, cancel what is being verified (row 9); what the outbox holds for the contact ends where it is not so any more; a job goes on.
func (m *Moved) ContactChanged(tx *store.Tx, out *xmpp.Out, account, contact xmpp.JID, was, now store.RosterItem, withdrawn, byContact bool) {
	if k := (claimKey{account: account, new: contact}).key(); !now.Sub.From() && (was.Sub.From() || withdrawn) && store.Claims.Has(tx, k) {
		store.Claims.Delete(tx, k)
	}
	m.outbox.supersede(tx, account, contact, now)
	if withdrawn && !byContact && !now.Sub.From() {
		m.deniedCarried(tx, out, account, contact)
	}
	m.progressed(tx, out, account, contact, was, now, byContact)
	m.lateContact(tx, out, account, contact, now)
}
