// Package blocking keeps what an account wants to hear nothing of (XEP-0191): the block list, its pushes, and the filters that make the
// account look offline to who is on it.
//
// The list that decides is in the store. A copy in memory, changed as an effect of the transaction that changed the store, is what
// every stanza is compared with.
package blocking

import (
	"strings"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Namespaces of XEP-0191.
const (
	NS       = "urn:xmpp:blocking"
	nsErrors = "urn:xmpp:blocking:errors"
)

// Presence is what blocking needs of the presence feature; both work as effects.
type Presence interface {
	// Block sends unavailable presence to whom a new entry covers, as far as he got presence.
	Block(tx *store.Tx, out *xmpp.Out, account, entry xmpp.JID) error
	// Unblock shows presence again to contacts whom an entry covered.
	Unblock(tx *store.Tx, out *xmpp.Out, account, entry xmpp.JID) error
}

// Options and limits.
type Options struct {
	// MaxEntries of one account's list. Default 2000. Beyond it: resource-constraint.
	MaxEntries int
}

// Blocking is the feature.
type Blocking struct {
	r        *xmpp.Router
	presence Presence
	opt      Options

	mu    sync.RWMutex
	lists map[xmpp.JID]map[xmpp.JID]bool // by account, as committed; accounts without entries are not in it
}

// Register hangs blocking on the router. Call Load before anybody connects.
func Register(r *xmpp.Router, p Presence, opt Options) *Blocking {
	if opt.MaxEntries <= 0 {
		opt.MaxEntries = 2000
	}
	b := &Blocking{r: r, presence: p, opt: opt, lists: map[xmpp.JID]map[xmpp.JID]bool{}}
	key := xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "blocklist"}
	r.Handle(key, b.list)
	key.Type, key.Name = "set", "block"
	r.HandleTx(key, b.block)
	key.Name = "unblock"
	r.HandleTx(key, b.unblock)
	r.FilterIn(b.inbound)
	r.FilterOut(b.outbound)
	r.Announce(xmpp.ToServer, NS)
	return b
}

// Load reads the lists from the store at start.
func (b *Blocking) Load() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.r.Store.View(func(tx *store.Tx) error {
		for key := range store.Blocks.All(tx) {
			name, entry, _ := strings.Cut(key, "\x00")
			account, err := xmpp.ParseJID(name)
			if err != nil {
				return err
			}
			who, err := xmpp.ParseJID(entry)
			if err != nil {
				return err
			}
			b.change(account, who, true)
		}
		return nil
	})
}

// Clear forgets the list of an account that goes; the store's records go with the account.
func (b *Blocking) Clear(_ *store.Tx, out *xmpp.Out, account xmpp.JID) error {
	out.After(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.lists, account)
	})
	return nil
}

// change is called with the lock held.
func (b *Blocking) change(account, entry xmpp.JID, blocked bool) {
	list := b.lists[account]
	if list == nil {
		list = map[xmpp.JID]bool{}
		b.lists[account] = list
	}
	if blocked {
		list[entry] = true
		return
	}
	if delete(list, entry); len(list) == 0 {
		delete(b.lists, account)
	}
}

// entries are what stands for a JID in a list, as JID.Covers has it.
func entries(who xmpp.JID) [4]xmpp.JID {
	return [4]xmpp.JID{who, who.Bare(), who.Host(), {Domain: who.Domain, Resource: who.Resource}}
}

// exempt: nobody blocks his own account or server, whatever the list holds.
func (b *Blocking) exempt(account, who xmpp.JID) bool {
	return who.Bare() == account || (who.Local == "" && b.r.IsLocal(who.Domain))
}

// Blocked tells, in a transaction, whether an account blocks somebody.
func (b *Blocking) Blocked(tx *store.Tx, account, who xmpp.JID) bool {
	if b.exempt(account, who) {
		return false
	}
	for _, e := range entries(who) {
		if store.Blocks.Has(tx, key(account, e)) {
			return true
		}
	}
	return false
}

func key(account, entry xmpp.JID) string { return store.Key(account.String(), entry.String()) }

// blocks is Blocked outside of transactions, from memory.
func (b *Blocking) blocks(account, who xmpp.JID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := b.lists[account]
	if list == nil || b.exempt(account, who) {
		return false
	}
	for _, e := range entries(who) {
		if list[e] {
			return true
		}
	}
	return false
}

// inbound makes the account look offline (§3.3). Answers to the box's own questions have passed before.
func (b *Blocking) inbound(rq *xmpp.Request) (drop bool, err error) {
	if !b.blocks(rq.Account(), rq.From) {
		return false, nil
	}
	switch {
	case rq.Kind == xmpp.Presence, rq.Kind == xmpp.IQ && !rq.IsRequest():
		return true, nil
	case rq.Kind == xmpp.Message && (rq.Type == "headline" || rq.Type == "groupchat" || rq.Type == "error"):
		return true, nil // an error would put the account out of a room, and says more than silence does
	}
	return false, xmpp.Errorf(stanza.ServiceUnavailable, "")
}

func (b *Blocking) outbound(rq *xmpp.Request) (drop bool, err error) {
	if rq.Session == nil || !b.blocks(rq.Session.JID.Bare(), rq.To) {
		return false, nil
	}
	e := xmpp.Errorf(stanza.NotAcceptable, "you have blocked this address").WithApp("blocked", nsErrors)
	e.Type = stanza.Cancel // §3.3, example 9
	return false, e
}
