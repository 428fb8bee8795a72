package delivery

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// seen is what was found out about a message before it is stored or delivered.
type seen struct {
	st     *xmpp.Stanza // cleaned
	traits traits
	by     *xmpp.Session // who sent it to his own account
	again  bool          // another server may have sent it before
}

// posting is a message on its way into the log, and from there to its recipient and its sender's devices. Each run of a transaction makes its own.
type posting struct {
	seen
	entry  store.Entry
	role   store.Role // of the recipient, where he is ours
	direct xmpp.JID   // the resource that it is for; zero: the account
	seq    uint64     // zero: it is not stored
	ids    []string   // of the entry's owners, "" where it is not archived
}

func (s *seen) posting() *posting { return &posting{seen: *s} }

func newPosting(st *xmpp.Stanza) *posting { return &posting{seen: seen{st: st, traits: look(st)}} }

// own makes an account an owner.
func (p *posting) own(account, with xmpp.JID, role store.Role) {
	if role&(store.Archived|store.Owed) != 0 {
		p.entry.Owners = append(p.entry.Owners, store.Owner{Account: account.String(), With: with.String(), Role: role})
	}
}

// append writes the entry, if anybody is to have it.
func (p *posting) append(tx *store.Tx) {
	if len(p.entry.Owners) == 0 && !p.entry.Remote {
		return
	}
	p.entry.Stanza = p.st.Raw
	p.seq = store.AppendLog(tx, &p.entry)
	for _, o := range p.entry.Owners {
		id := ""
		if o.Role&store.Archived != 0 {
			id = store.LogID(tx, o.Account, p.seq)
		}
		p.ids = append(p.ids, id)
	}
}

// copyFor is the message as an account sees it.
func (p *posting) copyFor(account xmpp.JID) *xmpp.Stanza {
	name := account.String()
	i := slices.IndexFunc(p.entry.Owners, func(o store.Owner) bool { return o.Account == name })
	if i < 0 || p.ids[i] == "" {
		return p.st
	}
	return identified(p.st, account, p.ids[i])
}
