package moved

import (
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

// query is a question to an old home that is under way.
type query struct{ again bool }

// arrive takes an inbound subscription request with <moved/> (rows 1 to 5). "Ordinary" is always the whole request, <moved/> included.
func (m *Moved) arrive(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	k := claimKey{account: rq.Account(), new: rq.From.Bare()}
	var ok bool
	if k.old, ok = oldJID(rq.Stanza); !ok || !m.mayQuery(tx, k) {
		return m.needs.Roster.InboundRequest(tx, out, rq)
	}
	claim := store.Claim{Old: k.old.String(), Received: time.Now()}
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	if item.Sub.From() || item.Approved { // row 4
		if err := m.needs.Roster.InboundRequest(tx, out, rq); err != nil {
			return err
		}
	} else {
		p, waiting := store.Pending.Get(tx, k.key())
		// What was shown already stays shown, and is not asked twice; the newer request is kept, so that its claim is what counts.
		p = store.PendingIn{Stanza: rq.Raw, Received: time.Now(), Verifying: !waiting || p.Verifying}
		store.Pending.Put(tx, k.key(), p)
	}
	store.Claims.Put(tx, k.key(), claim)
	out.After(func() { m.query(k) })
	return nil
}

// mayQuery is rows 1 and 3 and the limits: only who is in the roster, and not blocked, is ever asked about.
func (m *Moved) mayQuery(tx *store.Tx, k claimKey) bool {
	return m.stands(tx, k) && m.withinLimits(k)
}

// stands tells whether rows 1 and 3 let the claim through, as the transaction sees it.
func (m *Moved) stands(tx *store.Tx, k claimKey) bool {
	old, ok := m.needs.Roster.Item(tx, k.account, k.old)
	return ok && old.Sub.From() && !m.needs.Blocks.Blocked(tx, k.account, k.old) && !m.needs.Blocks.Blocked(tx, k.account, k.new)
}

func (m *Moved) withinLimits(k claimKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[k] != nil {
		return true
	}
	sender, domain := 0, 0
	for o := range m.running {
		if o.new == k.new {
			sender++
		}
		if o.new.Domain == k.new.Domain {
			domain++
		}
	}
	return sender < m.opt.MaxPerSender && domain < m.opt.MaxPerDomain && len(m.running) < m.opt.MaxTotal
}

// query asks the old home for the moved statement (row 6): from the account's bare JID, because a presence access model refuses the
// domain's. One is in flight per claim; a repeat meanwhile schedules one more.
func (m *Moved) query(k claimKey) {
	m.mu.Lock()
	if q := m.running[k]; q != nil {
		q.again = true
		m.mu.Unlock()
		return
	}
	m.running[k] = &query{}
	m.mu.Unlock()
	m.ask(k)
}

func (m *Moved) ask(k claimKey) {
	m.r.Ask(xmpp.Ask{
		From: k.account, To: k.old, Type: "get", Timeout: m.opt.Timeout,
		Payload: xmpp.NewXMLNS("pubsub", nsPubSub).Open("items", "").Attr("node", NS).Open("item", "").Attr("id", "current").Bytes(),
		Done:    func(reply *xmpp.Request) { m.conclude(k, m.proves(k, reply)) },
	})
}

// proves tells whether a reply proves the claim (rows 6 and 7). Id and addresses were compared by Router.Ask.
func (m *Moved) proves(k claimKey, reply *xmpp.Request) bool {
	if reply == nil || !m.trusted(k, reply.Peer) {
		return false
	}
	to, ok := target(reply.Stanza)
	return ok && to == k.new
}

// trusted: the reply came over a stream that proves the old domain, or from this box about its own account. What our own side says of a
// server that it could not reach has no peer, and proves nothing.
func (m *Moved) trusted(k claimKey, p *xmpp.Peer) bool {
	if p == nil {
		return m.r.IsLocal(k.old.Domain)
	}
	return p.Domain == k.old.Domain && (p.Proof == xmpp.ProofCertificate || (p.Proof == xmpp.ProofDialback && m.opt.AcceptDialback))
}

// conclude ends a query: the effect, one more query, or the ordinary way. It runs on any goroutine and does not block.
func (m *Moved) conclude(k claimKey, proven bool) {
	if !proven && m.askAgain(k) {
		return
	}
	m.r.Submit(512, func(tx *store.Tx, out *xmpp.Out) error {
		return m.settle(tx, out, k, proven)
	}, func(err error) {
		m.mu.Lock()
		again := m.running[k].again
		delete(m.running, k)
		m.mu.Unlock()
		switch {
		case err != nil: // the claim is still stored: it is verified again at the next start
			m.opt.Log.Error("moved: a verified claim could not be written", "error", err)
		case again: // it was repeated while the outcome was written
			m.repeat(k)
		}
	})
}

func (m *Moved) askAgain(k claimKey) bool {
	m.mu.Lock()
	q := m.running[k]
	again := q.again
	q.again = false
	m.mu.Unlock()
	if again {
		m.ask(k)
	}
	return again
}

// repeat takes up a claim that was stored again behind the conclusion of the one before.
func (m *Moved) repeat(k claimKey) {
	var stored bool
	if err := m.r.Store.View(func(tx *store.Tx) error {
		c, ok := store.Claims.Get(tx, k.key())
		stored = ok && c.Old == k.old.String()
		return nil
	}); err == nil && stored {
		m.query(k)
	}
}

// settle is the transaction at the end of a verification. What happened meanwhile (row 9) shows in what it reads: the claim, the pending
// request, blocks, and both roster items.
func (m *Moved) settle(tx *store.Tx, out *xmpp.Out, k claimKey, proven bool) error {
	claim, ok := store.Claims.Get(tx, k.key())
	if !ok || claim.Old != k.old.String() {
		return nil // cancelled, or another claim of the same sender took its place
	}
	store.Claims.Delete(tx, k.key())
	request, err := m.pendingClaim(tx, k)
	if err != nil {
		return err
	}
	item, _ := m.needs.Roster.Item(tx, k.account, k.new)
	known := item.Sub.From()
	switch {
	case request == nil && !known:
		return nil // answered, withdrawn or removed meanwhile
	case m.needs.Blocks.Blocked(tx, k.account, k.new):
		if request != nil {
			store.Pending.Delete(tx, k.key())
		}
		return nil
	case proven && m.stands(tx, k):
		return m.follow(tx, out, k, known)
	case request == nil:
		return nil
	}
	p, _ := store.Pending.Get(tx, k.key())
	if !p.Verifying {
		return nil // shown before this claim came; it still waits for the user
	}
	store.Pending.Delete(tx, k.key())
	return m.needs.Roster.InboundRequest(tx, out, &xmpp.Request{Stanza: request, Router: m.r, Class: xmpp.ToAccount})
}

// pendingClaim is the pending request of the new address, if it is this claim.
func (m *Moved) pendingClaim(tx *store.Tx, k claimKey) (*xmpp.Stanza, error) {
	p, ok := store.Pending.Get(tx, k.key())
	if !ok {
		return nil, nil
	}
	st, err := xmpp.ParseStanza(p.Stanza)
	if err != nil {
		return nil, err
	}
	if old, ok := oldJID(st); !ok || old != k.old {
		return nil, nil
	}
	return st, nil
}
