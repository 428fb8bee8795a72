package delivery

import (
	"encoding/binary"
	"slices"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// account is what memory holds of an account's devices and of what waits for them. Its lock is never held while a stanza is handed over or the store
// is read.
type account struct {
	d   *Delivery
	jid xmpp.JID

	mu      sync.Mutex
	cursor  cursor
	readers map[*xmpp.Session]*reader
	deaf    map[*xmpp.Session]bool // resources that did not answer for what they were handed
	recent  recent
	out     []parcel
	handing bool // somebody carries out what is in out
}

// parcel is a stanza for a session, or something that has its place among them.
type parcel struct {
	s  *xmpp.Session
	st *xmpp.Stanza
	do func()
}

// account finds an account, and reads what waits for it from the store when it is needed for the first time. It must not be called in a transaction.
func (d *Delivery) account(jid xmpp.JID) *account {
	if a := d.known(jid); a != nil {
		return a
	}
	d.loading.Lock()
	defer d.loading.Unlock()
	if a := d.known(jid); a != nil {
		return a
	}
	a := &account{d: d, jid: jid, readers: map[*xmpp.Session]*reader{}, deaf: map[*xmpp.Session]bool{}}
	if err := d.r.Store.View(func(tx *store.Tx) error { a.cursor.load(tx, jid.String()); return nil }); err != nil {
		d.opt.Log.Error("delivery: reading what waits for an account", "error", err)
		return a // for this once
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accounts[jid] = a
	return a
}

// known is account for transactions: nil while it was not needed yet.
func (d *Delivery) known(jid xmpp.JID) *account {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.accounts[jid]
}

// post queues a stanza; release hands it over. Both need the lock.
func (a *account) post(s *xmpp.Session, st *xmpp.Stanza) { a.out = append(a.out, parcel{s: s, st: st}) }

// release gives the lock back and hands over what was posted, in order, unless somebody is at it.
func (a *account) release() {
	for !a.handing && len(a.out) > 0 {
		batch := a.out
		a.out, a.handing = nil, true
		a.mu.Unlock()
		for i := range batch {
			if p := &batch[i]; p.do != nil {
				p.do()
			} else if p.s.Deliver(p.st) {
				p.s = nil
			}
		}
		a.mu.Lock()
		for _, p := range batch { // a session that took it not is about to end
			if p.s != nil && p.st.Seq != 0 {
				a.cursor.letGo(p.st.Seq, p.s)
			}
		}
		a.handing = false
	}
	a.mu.Unlock()
}

// hand gives a session what is not stored, behind what is being handed over.
func (a *account) hand(s *xmpp.Session, st *xmpp.Stanza) bool {
	a.mu.Lock()
	if a.handing {
		a.post(s, st)
		a.mu.Unlock()
		return true
	}
	a.mu.Unlock()
	return s.Deliver(st)
}

// handAll gives what is not stored to all who are to have it; without anybody who takes it directly nothing happens.
func (a *account) handAll(p *posting) (taken bool) {
	sessions := a.d.r.Sessions(a.jid)
	for _, s := range sessions {
		if a.d.way(p, s) == directly {
			taken = a.hand(s, p.st) || taken
		}
	}
	if !taken && !p.direct.IsZero() || !p.traits.copied {
		return taken
	}
	for _, s := range sessions {
		if w := a.d.way(p, s); w != directly && w != notAtAll {
			a.hand(s, w.wrapped(p.st, s, false))
		}
	}
	return taken
}

// presence: a resource began or ceased to take what is sent to the account.
func (d *Delivery) presence(s *xmpp.Session, old, _ *xmpp.Stanza) {
	a := d.account(s.JID.Bare())
	a.mu.Lock()
	defer a.release()
	switch {
	case !isTarget(s):
		a.stopReading(s)
		a.assign(nil)
	case old == nil || priority(old) < 0:
		delete(a.deaf, s)
		a.assign(s)
	}
}

// detached: what a resource without a connection was not handed yet, another one may get.
func (d *Delivery) detached(s *xmpp.Session, detached bool) {
	a := d.account(s.JID.Bare())
	a.mu.Lock()
	defer a.release()
	rd := a.readers[s]
	if rd != nil && detached {
		for _, q := range rd.queue {
			if q.old {
				a.cursor.letGo(q.seq, s)
			}
		}
	}
	a.assign(s)
	if rd != nil && !detached {
		a.nextPage(rd)
	}
}

// taken: the client has it.
func (d *Delivery) taken(s *xmpp.Session, st *xmpp.Stanza) {
	a := d.known(s.JID.Bare())
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.release()
	rd := a.readers[s]
	if rd != nil && rd.byPing && slices.Contains(rd.page, st.Seq) {
		return // written is not enough for what waited
	}
	if it := a.cursor.find(st.Seq); it != nil && !isTarget(s) {
		if _, copied := it.copied[s]; copied {
			it.copied[s] = true
			return
		}
	}
	a.cursor.done(st.Seq)
	if rd != nil && len(rd.page) > 0 && rd.page[len(rd.page)-1] == st.Seq {
		a.answered(rd)
	}
}

// gone: what a session had and did not acknowledge is still owed, and goes to another one, or waits.
func (d *Delivery) gone(s *xmpp.Session) {
	a := d.known(s.JID.Bare())
	if a == nil {
		return
	}
	a.mu.Lock()
	delete(a.readers, s)
	delete(a.deaf, s)
	a.cursor.letAllGo(s)
	a.assign(nil)
	if a.cursor.unwritten(true) {
		a.out = append(a.out, parcel{do: a.write})
	}
	a.release()
}

// held is what a session, which waits for the box to start again, has in its own queue: it is not to be handed that anew.
func (d *Delivery) held(s *xmpp.Session) (saved []byte) {
	a := d.account(s.JID.Bare())
	a.mu.Lock()
	defer a.mu.Unlock()
	waits := map[uint64]bool{} // for the session's next page
	if rd := a.readers[s]; rd != nil {
		for _, q := range rd.queue {
			waits[q.seq] = true
		}
	}
	for i := range a.cursor.waiting {
		if it := &a.cursor.waiting[i]; slices.Contains(it.with, s) && !waits[it.seq] {
			saved = binary.BigEndian.AppendUint64(saved, it.seq)
		}
	}
	return saved
}

// holds takes a session up again.
func (d *Delivery) holds(s *xmpp.Session, saved []byte) {
	a := d.account(s.JID.Bare())
	a.mu.Lock()
	defer a.mu.Unlock()
	for ; len(saved) >= 8; saved = saved[8:] {
		a.cursor.hold(binary.BigEndian.Uint64(saved), s)
	}
}
