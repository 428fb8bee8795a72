package roster

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// edit is a roster set (RFC 6121 §2.1.5).
type edit struct {
	who    xmpp.JID
	name   string
	groups []string
	remove bool
}

// set is RFC 6121 §2.3, §2.4 and §2.5.
func (ro *Roster) set(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	if !rq.FromOwner() {
		return xmpp.Errorf(stanza.Forbidden, "a roster is its owner's alone")
	}
	account := rq.Account()
	e, err := ro.parse(rq.Node().Child(NS, "query"))
	if err != nil {
		return err
	}
	if e.who == account {
		return xmpp.Errorf(stanza.NotAllowed, "nobody is his own contact")
	}
	old := load(tx, account, e.who)
	if e.remove {
		if !old.listed {
			return xmpp.Errorf(stanza.ItemNotFound, "there is no such contact")
		}
		out.Reply(rq, nil)
		ro.Remove(tx, out, account, e.who)
		return nil
	}
	now := old
	now.listed, now.Name, now.Groups = true, e.name, e.groups
	if err := ro.room(tx, account, e.who, old, now); err != nil {
		return err
	}
	out.Reply(rq, nil)
	if now.sameItem(old) {
		ro.push(tx, out, account, e.who, old.RosterItem) // nothing to write, but the client waits for a push
		return nil
	}
	ro.apply(tx, out, account, e.who, old, now)
	return nil
}

// parse checks a roster set (RFC 6121 §2.3.3). Of the subscription attribute only "remove" counts (§2.1.5); ask and approved
// are the box's.
func (ro *Roster) parse(query *frame.Node) (e edit, err error) {
	var item *frame.Node
	for _, c := range query.Children {
		if c.Name != "item" || c.NS != NS {
			continue
		}
		if item != nil {
			return e, xmpp.Errorf(stanza.BadRequest, "a roster set holds one item")
		}
		item = c
	}
	switch {
	case item == nil:
		return e, xmpp.Errorf(stanza.BadRequest, "a roster set holds one item")
	case item.Attr("jid") == "":
		return e, xmpp.Errorf(stanza.BadRequest, "an item has an address")
	}
	j, err := xmpp.ParseJID(item.Attr("jid"))
	if err != nil {
		return e, xmpp.Errorf(stanza.JIDMalformed, "the contact's address can not be understood")
	}
	// Subscriptions are between bare addresses (§3.1.1), so an item for one resource could never have one.
	e.who, e.name, e.remove = j.Bare(), item.Attr("name"), item.Attr("subscription") == "remove"
	if len(e.name) > ro.opt.MaxName {
		return e, xmpp.Errorf(stanza.NotAcceptable, "a name of more than %d bytes", ro.opt.MaxName)
	}
	e.groups, err = ro.parseGroups(item)
	return e, err
}

func (ro *Roster) parseGroups(item *frame.Node) (groups []string, err error) {
	for _, c := range item.Children {
		if c.Name != "group" || c.NS != NS {
			continue
		}
		switch {
		case c.Text == "":
			return nil, xmpp.Errorf(stanza.NotAcceptable, "a group without a name")
		case len(c.Text) > ro.opt.MaxName:
			return nil, xmpp.Errorf(stanza.NotAcceptable, "a group's name of more than %d bytes", ro.opt.MaxName)
		case slices.Contains(groups, c.Text):
			return nil, xmpp.Errorf(stanza.BadRequest, "a group is named twice")
		case len(groups) >= ro.opt.MaxGroups:
			return nil, xmpp.Errorf(stanza.NotAcceptable, "more than %d groups", ro.opt.MaxGroups)
		}
		groups = append(groups, c.Text)
	}
	return groups, nil
}
