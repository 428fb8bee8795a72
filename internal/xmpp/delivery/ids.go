package delivery

import (
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const (
	nsSID   = "urn:xmpp:sid:0"
	nsDelay = "urn:xmpp:delay"
)

// cleaned is a message as it comes in, without ids that only we give (XEP-0359 §5): those by our domains and accounts.
func (d *Delivery) cleaned(st *xmpp.Stanza) *xmpp.Stanza {
	return without(st, nsSID, "stanza-id", func(n *frame.Node) bool {
		by, err := xmpp.ParseJID(n.Attr("by"))
		return err == nil && d.r.IsLocal(by.Domain)
	})
}

// without is the message without the children of that name that match.
func without(st *xmpp.Stanza, ns, name string, match func(*frame.Node) bool) *xmpp.Stanza {
	if !st.HasChild(ns, name) {
		return st
	}
	nodes := st.Node().Children // of the whole: a child may use what its parent declares
	forged := map[int]bool{}
	for i, c := range st.Children {
		if c.NS == ns && c.Name == name && match(nodes[i]) {
			forged[c.Start] = true
		}
	}
	if len(forged) == 0 {
		return st
	}
	return st.Edited(st.WithoutChildren(func(c frame.Child) bool { return forged[c.Start] }))
}

// identified is the message with the id that it has in an archive.
func identified(st *xmpp.Stanza, by xmpp.JID, id string) *xmpp.Stanza {
	return st.Edited(st.WithChild(xmpp.NewXMLNS("stanza-id", nsSID).Attr("by", by.String()).Attr("id", id).Bytes()))
}

// stamped tells when the message came (XEP-0203 §4), in the name of our domain; a stamp that pretends to be ours is taken out.
func stamped(st *xmpp.Stanza, account xmpp.JID, at time.Time) *xmpp.Stanza {
	st = without(st, nsDelay, "delay", func(n *frame.Node) bool { return n.Attr("from") == account.Domain })
	return st.Edited(st.WithChild(xmpp.NewXMLNS("delay", nsDelay).Attr("from", account.Domain).
		Attr("stamp", at.UTC().Format("2006-01-02T15:04:05.000Z")).Bytes()))
}
