package pep

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// ear is a resource that may hear of an account's events. Those of other servers are listeners; those of this box are kept here only for
// what they were told.
type ear struct {
	told     []string // nodes whose last item it got since it became available
	listener bool
	stranger bool // no contact
}

// heard: a resource's capabilities became known or changed, as seen by an account. It gets the last items of the nodes that it wants
// to hear of and was not told of yet (XEP-0163 §4.3.4). That happens among the committed operations, so that no newer event is overtaken.
func (p *PEP) heard(account, full xmpp.JID) {
	own := full.Bare() == account
	if !own && !p.admit(account, full) {
		return
	}
	p.r.Submit(256, func(tx *store.Tx, out *xmpp.Out) error {
		p.tell(tx, out, account, full, !own)
		if !own {
			return nil
		}
		for _, who := range p.localContacts(tx, account, store.Subscription.To) {
			p.tell(tx, out, who, full, false)
		}
		return nil
	}, nil)
}

// admit makes a resource a listener, before anything is read: of a publication from now on it is told.
func (p *PEP) admit(account, full xmpp.JID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ears := p.ears[account]
	if ears == nil {
		ears = map[xmpp.JID]*ear{}
		p.ears[account] = ears
	}
	e := ears[full]
	if e == nil {
		if len(ears) >= p.opt.MaxListeners {
			return false
		}
		e = &ear{}
		ears[full] = e
	}
	e.listener = true
	return true
}

// tell sends a resource the last items of an account; byPresence: because its presence came to that account.
func (p *PEP) tell(tx *store.Tx, out *xmpp.Out, account, full xmpp.JID, byPresence bool) {
	item := contact(tx, account, full)
	own := full.Bare() == account
	if !own && byPresence && item.Sub.From() && p.r.SessionOf(full) != nil {
		return // it was told as a resource of this box
	}
	stranger := !own && item.Sub == store.SubNone
	if stranger && !p.room(account, full) {
		out.After(func() { p.forget(account, full) })
		return
	}
	told := p.toldOf(account, full)
	var session *xmpp.Session
	if own {
		if session = p.r.SessionOf(full); session == nil {
			return
		}
	}
	wants := slices.Clone(told)
	for name, rec := range store.AllPEPNodes(tx, account.String()) {
		n := p.node(name, rec)
		if !p.caps.WantsNotify(full, name) || slices.Contains(told, name) || !p.hears(tx, account, n, full) {
			continue
		}
		wants = append(wants, name)
		if n.cfg.get("send_last_published_item") == "on_sub_and_presence" {
			p.last(tx, out, account, n, []target{{to: full, session: session, shares: own || item.Sub.From()}})
		}
	}
	out.After(func() { p.remember(account, full, wants, stranger) })
}

func (p *PEP) hears(tx *store.Tx, account xmpp.JID, n *node, full xmpp.JID) bool {
	return n.cfg.on("deliver_notifications") && n.served(tx, account) && n.mayRead(tx, account, full) == nil &&
		(full.Bare() == account || !p.blocks.Blocked(tx, account, full))
}

func (p *PEP) toldOf(account, full xmpp.JID) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.ears[account][full]; e != nil {
		return e.told
	}
	return nil
}

// room takes a place among the strangers, if there is one.
func (p *PEP) room(account, full xmpp.JID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := 0
	for j, e := range p.ears[account] {
		if e.stranger && j != full {
			others++
		}
	}
	e := p.ears[account][full]
	if e == nil || others >= p.opt.MaxStrangers {
		return false
	}
	e.stranger = true
	return true
}

// remember notes what a resource was told, unless it went meanwhile. A stranger who wants nothing that he may have is forgotten.
func (p *PEP) remember(account, full xmpp.JID, told []string, stranger bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.ears[account][full]
	if e == nil {
		s := p.r.SessionOf(full)
		if s == nil {
			return
		}
		if now, _ := s.Presence(); now == nil {
			return
		}
		e = &ear{}
		if p.ears[account] == nil {
			p.ears[account] = map[xmpp.JID]*ear{}
		}
		p.ears[account][full] = e
	}
	e.told, e.stranger = told, stranger
	if stranger && len(told) == 0 {
		delete(p.ears[account], full)
	}
}

func (p *PEP) forget(account, full xmpp.JID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ears[account], full)
}

// leave: a resource of this box is not available any more.
func (p *PEP) leave(s *xmpp.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ears := range p.ears {
		delete(ears, s.JID)
	}
}

// contactPresence: a resource of a contact, or his account with all of them, is not available any more.
func (p *PEP) contactPresence(account xmpp.JID, st *xmpp.Stanza) {
	if st.Type != "unavailable" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for full := range p.ears[account] {
		if full == st.From || st.From.IsBare() && full.Bare() == st.From {
			delete(p.ears[account], full)
		}
	}
}

// listeners are the resources that sent presence to the account, in a fixed order.
func (p *PEP) listeners(account xmpp.JID) (list []xmpp.JID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for full, e := range p.ears[account] {
		if e.listener {
			list = append(list, full)
		}
	}
	slices.SortFunc(list, func(a, b xmpp.JID) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	return list
}

// online tells whether presence of a JID, or of any resource of a bare one, is known to the account.
func (p *PEP) online(account, who xmpp.JID) bool {
	for _, s := range p.r.Available(who.Bare()) {
		if who.IsBare() || s.JID == who {
			return true
		}
	}
	return slices.ContainsFunc(p.listeners(account), func(full xmpp.JID) bool { return full == who || full.Bare() == who })
}

// RosterChanged is to be called in the transaction of each change of a contact's roster item, after its writes: subscriptions that lost
// their ground end, and who may see more now gets the last items (XEP-0163 §7.1). An item that is not there has the state none.
func (p *PEP) RosterChanged(tx *store.Tx, out *xmpp.Out, account, who xmpp.JID, old, now store.RosterItem) {
	if old.Sub.From() == now.Sub.From() && slices.Equal(old.Groups, now.Groups) {
		return
	}
	for name, rec := range store.AllPEPNodes(tx, account.String()) {
		n := p.node(name, rec)
		model := n.cfg.get("access_model")
		if model != accessPresence && model != accessRoster {
			continue
		}
		changes := p.settle(tx, account, n)
		p.save(tx, account, n)
		p.notifyStates(tx, out, account, n, changes)
		if n.cfg.get("send_last_published_item") == "never" || n.admits(old) || !n.admits(now) || n.affiliation(account, who) != none {
			continue
		}
		p.last(tx, out, account, n, slices.DeleteFunc(p.audience(tx, account, n), func(t target) bool { return t.to.Bare() != who }))
	}
}
