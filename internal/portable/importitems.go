package portable

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Roster implements Sink. Under the same address it is as it was; else the move asks the contacts.
func (im *Importer) Roster(item RosterItem) error {
	a := im.cur
	who, err := xmpp.ParseJID(item.JID)
	switch {
	case err != nil:
		return a.lose("a contact", "its address can not be understood")
	case !who.IsBare():
		return a.lose("a contact", "it is one resource of somebody")
	case who == a.from || who == a.to:
		return a.lose("a contact", "nobody is his own contact")
	case item.Sub != store.SubNone && item.Sub != store.SubTo && item.Sub != store.SubFrom && item.Sub != store.SubBoth:
		return a.lose("a contact", "its subscription has no such state")
	case a.contacts[who.String()]:
		return a.lose("a contact", "it was in the list already")
	}
	size := len(item.JID) + len(item.Name) + len(item.Groups)
	var groups []string
	for _, g := range item.Groups {
		if g == "" || len(g) > maxName || len(groups) >= maxGroups || slices.Contains(groups, g) {
			_ = a.lose("a contact's group", "it is one too many, named twice, or its name is too long")
			continue
		}
		groups = append(groups, g)
		size += len(g)
	}
	if len(item.Name) > maxName {
		item.Name = strings.ToValidUTF8(item.Name[:maxName], "")
		_ = a.lose("a part of a contact's name", "it is too long")
	}
	if len(a.contacts) >= maxContacts || a.rosterText+size > maxRosterText {
		return a.lose("a contact", "there are too many")
	}
	a.rosterText += size
	a.contacts[who.String()] = true
	a.result.Counts.Contacts++
	ask, approved := item.Ask && !item.Sub.To(), item.Approved && !item.Sub.From()
	if a.moving {
		return a.contact(who, size, func(c *store.MoveContact) {
			c.Sub, c.Ask, c.Approved, c.Name, c.Groups = item.Sub, ask, approved, item.Name, groups
		})
	}
	rec := store.RosterItem{Name: item.Name, Groups: groups, Sub: item.Sub, Ask: ask, Approved: approved, Version: a.rosterVersion()}
	return a.write(size, func(tx *store.Tx) error {
		store.Roster.Put(tx, store.Key(a.to.String(), who.String()), rec)
		return nil
	})
}

// contact adds to what the move knows of a contact.
func (a *incoming) contact(who xmpp.JID, size int, add func(*store.MoveContact)) error {
	return a.write(size, func(tx *store.Tx) error {
		c, _ := store.MoveContacts.Get(tx, store.Key(a.to.String(), who.String()))
		add(&c)
		return a.im.opt.Moves.AddContact(tx, a.to, who, c)
	})
}

// Pending implements Sink.
func (im *Importer) Pending(raw []byte) error {
	a := im.cur
	st, at, _, ok := a.stanza(raw, true)
	if !ok || st.Kind != xmpp.Presence || st.Type != "subscribe" || st.From.IsZero() {
		return a.lose("a contact's request", "it is none")
	}
	who := kept(st.From.Bare())
	switch {
	case who == a.from || who == a.to || a.requests[who.String()]:
		return a.lose("a contact's request", "it is from the account itself, or the second one of this contact")
	case len(st.Raw) > maxRequest || len(a.requests) >= maxRequests:
		return a.lose("a contact's request", "it is too large, or one too many")
	}
	a.requests[who.String()] = true
	a.result.Counts.Requests++
	if at.IsZero() || at.After(a.began) {
		at = a.began
	}
	stored := bytes.Clone(st.Addressed(who, a.to).Raw)
	if a.moving {
		return a.contact(who, len(stored), func(c *store.MoveContact) {
			if c.Pending = stored; c.Sub == "" {
				c.Sub = store.SubNone
			}
		})
	}
	return a.write(len(stored), func(tx *store.Tx) error {
		store.Pending.Put(tx, store.Key(a.to.String(), who.String()), store.PendingIn{Stanza: stored, Received: at})
		return nil
	})
}

// kept is an address that may be kept: its parts share no memory with where it was read.
func kept(j xmpp.JID) xmpp.JID {
	return xmpp.JID{Local: strings.Clone(j.Local), Domain: strings.Clone(j.Domain), Resource: strings.Clone(j.Resource)}
}

// Private implements Sink.
func (im *Importer) Private(element []byte) error {
	a := im.cur
	el, err := frame.Parse(element, xmpp.NSClient, elementLimits)
	switch {
	case err != nil, el.NS == "", el.NS == nsPrivate, el.NS == xmpp.NSClient, el.NS == xmpp.NSServer, len(el.NS)+len(el.Name) > maxKeyText:
		return a.lose("private data", "it has no namespace of its own")
	case len(el.Raw) > maxPrivateXML:
		return a.lose("private data", "it is larger than 128 KiB")
	}
	key := store.Key(a.to.String(), el.NS, el.Name)
	switch {
	case a.private[key]:
		return a.lose("private data", "it came twice")
	case len(a.private) >= maxPrivate:
		return a.lose("private data", "there is too much")
	}
	a.private[key] = true
	a.result.Counts.Private++
	return a.write(len(el.Raw), func(tx *store.Tx) error {
		store.Private.Put(tx, key, store.PrivateXML{XML: el.Raw})
		return nil
	})
}

// VCard implements Sink.
func (im *Importer) VCard(element []byte) error {
	a := im.cur
	el, err := frame.Parse(element, xmpp.NSClient, elementLimits)
	if err != nil || el.NS != nsVCard || el.Name != "vCard" || len(el.Raw) > maxVCard {
		return a.lose("the card (vcard-temp)", "it is none, or larger than 256 KiB")
	}
	if a.result.Counts.VCard {
		return a.lose("the card (vcard-temp)", "it came twice")
	}
	a.result.Counts.VCard = true
	return a.write(len(el.Raw), func(tx *store.Tx) error {
		store.VCards.Put(tx, a.to.String(), el.Raw)
		return nil
	})
}

// Blocked implements Sink. That an address comes twice is nothing strange: files have the list in two forms.
func (im *Importer) Blocked(jid string) error {
	a := im.cur
	who, err := xmpp.ParseJID(jid)
	switch {
	case err != nil:
		return a.lose("an address on the block list", "it can not be understood")
	case a.blocked[who.String()]:
		return nil
	case who.Bare() == a.to, who == a.to.Host():
		return a.lose("an address on the block list", "an account can not block itself or its server")
	case len(a.blocked) >= maxBlocked:
		return a.lose("an address on the block list", "there are too many")
	}
	a.blocked[who.String()] = true
	a.result.Counts.Blocked++
	return a.write(len(jid), func(tx *store.Tx) error {
		store.Blocks.Put(tx, store.Key(a.to.String(), who.String()), store.Block{Since: a.began})
		return nil
	})
}

// ArchivePrefs implements Sink (XEP-0441).
func (im *Importer) ArchivePrefs(element []byte) error {
	a := im.cur
	el, err := frame.Parse(element, xmpp.NSClient, elementLimits)
	if err != nil || el.NS != nsMAM || el.Name != "prefs" {
		return a.lose("what the archive is to keep", "it can not be understood")
	}
	pref := store.ArchivePref{Default: store.ArchiveDefault(el.Attr("default"))}
	switch pref.Default {
	case store.ArchiveAlways, store.ArchiveNever, store.ArchiveRoster:
	default:
		return a.lose("what the archive is to keep", "it can not be understood")
	}
	seen := map[string]bool{}
	for _, l := range []struct {
		name string
		to   *[]string
	}{{"always", &pref.Always}, {"never", &pref.Never}} {
		for _, c := range kids(el.Node().Child(nsMAM, l.name)) {
			j, err := xmpp.ParseJID(strings.TrimSpace(c.Text))
			if err != nil || c.Name != "jid" || seen[j.String()] || len(seen) >= maxListed {
				_ = a.lose("an address in what the archive is to keep", "it can not be understood, came twice, or is one too many")
				continue
			}
			seen[j.String()] = true
			*l.to = append(*l.to, j.String())
		}
	}
	if pref.Default == store.ArchiveAlways && len(seen) == 0 {
		return nil
	}
	return a.write(len(el.Raw), func(tx *store.Tx) error {
		store.ArchivePrefs.Put(tx, a.to.String(), pref)
		return nil
	})
}

func kids(n *frame.Node) []*frame.Node {
	if n == nil {
		return nil
	}
	return n.Children
}

// mine is an address as it is here: the account's own one may have changed.
func (a *incoming) mine(j xmpp.JID) xmpp.JID {
	if j.Bare() == a.from {
		return a.to.With(j.Resource)
	}
	return j
}

// stanza reads a stanza and takes out of it what the server that it comes from added: ids in the account's archive, and, where it waited for the
// account, when it came.
func (a *incoming) stanza(raw []byte, waited bool) (st *xmpp.Stanza, at time.Time, id string, ok bool) {
	el, ok := streamed(raw)
	if !ok || len(el.Raw) > maxStanza {
		return nil, at, "", false
	}
	if el.HasChild(nsSID, "stanza-id") || waited && el.HasChild(nsDelay, "delay") {
		el, at, id = a.unstamped(el, waited)
	}
	st, err := xmpp.NewStanza(el)
	if err != nil {
		return nil, at, "", false
	}
	return st, at, id, true
}

func (a *incoming) unstamped(el *frame.Element, waited bool) (_ *frame.Element, at time.Time, id string) {
	nodes := el.Node().Children
	drop := map[int]bool{}
	delay := -1
	for i, c := range el.Children {
		n := nodes[i]
		switch {
		case c.NS == nsSID && c.Name == "stanza-id":
			if by, err := xmpp.ParseJID(n.Attr("by")); err == nil && (by == a.from || by == a.to) {
				if drop[c.Start], id = true, n.Attr("id"); len(id) > maxKeyText {
					id = ""
				}
			}
		case waited && c.NS == nsDelay && c.Name == "delay":
			if by := n.Attr("from"); by == a.from.Domain || by == a.from.String() || by == "" {
				delay, at = c.Start, stamp(n.Attr("stamp"))
			}
		}
	}
	if delay >= 0 {
		drop[delay] = true
	}
	return el.WithoutChildren(func(c frame.Child) bool { return drop[c.Start] }), at, id
}
