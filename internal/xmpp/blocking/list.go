package blocking

import (
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// interested marks sessions that asked for the list and get its pushes.
const interested = "blocking"

func forbidden() error { return xmpp.Errorf(stanza.Forbidden, "a block list is its owner's alone") }

// list is §3.2. The lock keeps pushes of later changes behind the result.
func (b *Blocking) list(rq *xmpp.Request) error {
	if !rq.FromOwner() {
		return forbidden()
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	rq.Session.Mark(interested, true)
	var names []string
	for entry := range b.lists[rq.Account()] {
		names = append(names, entry.String())
	}
	slices.Sort(names)
	x := xmpp.NewXMLNS("blocklist", NS)
	for _, name := range names {
		x.Open("item", "").Attr("jid", name).Close()
	}
	rq.Reply(x.Bytes())
	return nil
}

// items are the addresses that a request names, once each.
func items(rq *xmpp.Request) ([]xmpp.JID, error) {
	if !rq.FromOwner() {
		return nil, forbidden()
	}
	var list []xmpp.JID
	for _, c := range rq.Node().Children[0].Children {
		if c.NS != NS || c.Name != "item" || c.Attr("jid") == "" {
			return nil, xmpp.Errorf(stanza.BadRequest, "a block list holds items with a jid")
		}
		j, err := xmpp.ParseJID(c.Attr("jid"))
		if err != nil {
			return nil, xmpp.Errorf(stanza.JIDMalformed, "an address can not be understood")
		}
		if !slices.Contains(list, j) {
			list = append(list, j)
		}
	}
	return list, nil
}

// block is §3.3. What is blocked already is no mistake.
func (b *Blocking) block(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	list, err := items(rq)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return xmpp.Errorf(stanza.BadRequest, "nobody is named")
	}
	account := rq.Account()
	var fresh []xmpp.JID
	for _, j := range list {
		if b.exempt(account, j) {
			return xmpp.Errorf(stanza.NotAllowed, "an account can not block itself or its server")
		}
		if !store.Blocks.Has(tx, key(account, j)) {
			fresh = append(fresh, j)
		}
	}
	if store.Blocks.Count(tx, account.String())+len(fresh) > b.opt.MaxEntries {
		return xmpp.Errorf(stanza.ResourceConstraint, "a block list holds at most %d addresses", b.opt.MaxEntries)
	}
	b.after(out, account, fresh, true)
	for _, j := range fresh {
		known := b.Blocked(tx, account, j)
		store.Blocks.Put(tx, key(account, j), store.Block{Since: time.Now().UTC()})
		if known {
			continue // by a wider entry: gone to him already
		}
		if err := b.presence.Block(tx, out, account, j); err != nil {
			return err
		}
	}
	out.Reply(rq, nil)
	b.push(out, account, "block", list)
	return nil
}

// Add blocks for an account, within a transaction, whom it blocked elsewhere: nobody has seen it yet, so nobody is told. What is exempt, or too
// much, is left out.
func (b *Blocking) Add(tx *store.Tx, out *xmpp.Out, account xmpp.JID, list []xmpp.JID) {
	var fresh []xmpp.JID
	n := store.Blocks.Count(tx, account.String())
	for _, j := range list {
		if b.exempt(account, j) || store.Blocks.Has(tx, key(account, j)) || n >= b.opt.MaxEntries {
			continue
		}
		store.Blocks.Put(tx, key(account, j), store.Block{Since: time.Now().UTC()})
		fresh = append(fresh, j)
		n++
	}
	if len(fresh) > 0 {
		b.after(out, account, fresh, true)
		b.push(out, account, "block", fresh)
	}
}

// unblock is §3.4, and §3.5 where nobody is named.
func (b *Blocking) unblock(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	list, err := items(rq)
	if err != nil {
		return err
	}
	account := rq.Account()
	gone := list
	if len(list) == 0 {
		if gone, err = all(tx, account); err != nil {
			return err
		}
	}
	gone = slices.DeleteFunc(slices.Clone(gone), func(j xmpp.JID) bool { return !store.Blocks.Has(tx, key(account, j)) })
	for _, j := range gone {
		store.Blocks.Delete(tx, key(account, j))
	}
	b.after(out, account, gone, false)
	for _, j := range gone {
		if slices.ContainsFunc(gone, func(o xmpp.JID) bool { return o != j && o.Covers(j) }) {
			continue // shown once
		}
		if err := b.presence.Unblock(tx, out, account, j); err != nil {
			return err
		}
	}
	out.Reply(rq, nil)
	b.push(out, account, "unblock", list)
	return nil
}

func all(tx *store.Tx, account xmpp.JID) (list []xmpp.JID, err error) {
	prefix := store.Key(account.String(), "")
	for k := range store.Blocks.All(tx, account.String()) {
		j, err := xmpp.ParseJID(strings.TrimPrefix(k, prefix))
		if err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	return list, nil
}

// Appear reads the list of an account that begins to exist with it.
func (b *Blocking) Appear(tx *store.Tx, out *xmpp.Out, account xmpp.JID) error {
	list, err := all(tx, account)
	if err == nil {
		b.after(out, account, list, true)
	}
	return err
}

// after changes the copy in memory, before presence is sent, which the filters see.
func (b *Blocking) after(out *xmpp.Out, account xmpp.JID, list []xmpp.JID, blocked bool) {
	out.After(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, j := range list {
			b.change(account, j, blocked)
		}
	})
}

// push tells the resources that asked for the list what was asked for, also where nothing changed: their copy may be older.
func (b *Blocking) push(out *xmpp.Out, account xmpp.JID, what string, list []xmpp.JID) {
	x := xmpp.NewXMLNS(what, NS)
	for _, j := range list {
		x.Open("item", "").Attr("jid", j.String()).Close()
	}
	payload := x.Bytes()
	out.After(func() {
		for _, s := range b.r.Sessions(account) {
			if s.Marked(interested) {
				s.Deliver(xmpp.Make(xmpp.NewXML("iq").Attr("type", "set").Attr("id", strings.ToLower(rand.Text()[:12])).
					Attr("from", account.String()).Attr("to", s.JID.String()).Raw(payload).Bytes()))
			}
		}
	})
}
