package xmpp

import "pibox/internal/store"

// The directory is who lives here: kept in memory, because every stanza asks.

// LoadDirectory reads the accounts from the store at start.
func (r *Router) LoadDirectory() error {
	return r.Store.View(func(tx *store.Tx) error {
		for key, acc := range store.Accounts.All(tx) {
			j, err := ParseJID(key)
			if err != nil {
				return err
			}
			if acc.Closed == nil {
				r.SetExists(j, true)
			}
		}
		return nil
	})
}

// Exists tells whether a bare JID is an account of ours that is not closed.
func (r *Router) Exists(bare JID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a := r.accounts[bare]
	return a != nil && a.exists
}

// SetExists adds or removes an account; call it as an effect of the transaction that did so.
func (r *Router) SetExists(bare JID, exists bool) {
	r.account(bare, true)
	r.mu.Lock()
	r.accounts[bare].exists = exists
	r.mu.Unlock()
}

// MaySee tells whether somebody may see an account's presence, and with it that the account exists: the account itself, and contacts with a
// subscription from or both (XEP-0030 §8).
func MaySee(tx *store.Tx, account, who JID) bool {
	if who.Bare() == account {
		return true
	}
	item, ok := store.Roster.Get(tx, store.Key(account.String(), who.Bare().String()))
	return ok && !item.Removed && item.Sub.From()
}
