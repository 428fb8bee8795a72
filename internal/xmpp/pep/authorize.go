package pep

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// askOwner asks for an answer to a subscription request (XEP-0060 §8.6).
// It goes the way of every message, so that a stranger can not fill the disk by it.
func (p *PEP) askOwner(out *xmpp.Out, account xmpp.JID, n *node, who xmpp.JID) {
	x := xmpp.NewXML("message").Attr("id", newID()).Attr("from", account.String()).Attr("to", account.String())
	writeForm(x, "form", formAuthorize)
	writeField(x, "pubsub#node", "text-single", "Node", n.name)
	writeField(x, "pubsub#subscriber_jid", "jid-single", "Subscriber", who.String())
	writeField(x, "pubsub#allow", "boolean", "Allow this subscription?", "false")
	out.Send(xmpp.Make(x.Close().Bytes()))
}

// decision takes the owner's answer out of the messages that one of his own resources sends to his account.
func (p *PEP) decision(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Message || rq.Type == "error" || !rq.FromOwner() || rq.Class != xmpp.ToAccount || !rq.HasChild(nsData, "x") {
		return false, nil
	}
	f, ok, err := readForm(rq.Node())
	if err != nil || !ok || f.scope != formAuthorize || f.typ == "form" {
		return false, nil
	}
	if f.typ == "submit" {
		p.r.Commit(rq, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error { return p.decide(tx, out, rq.Account(), f) }, nil)
	}
	return true, nil
}

func (p *PEP) decide(tx *store.Tx, out *xmpp.Out, account xmpp.JID, f form) error {
	allow, known := f.yes("pubsub#allow")
	who, err := xmpp.ParseJID(f.value("pubsub#subscriber_jid"))
	if err != nil || !known {
		return malformed("the answer says who is allowed or not")
	}
	n, ok := p.load(tx, account, f.value("pubsub#node"))
	if !ok || n.rec.Subscriptions[who.String()] != pending {
		return notFound()
	}
	c := change{who, none}
	if allow {
		c.state = subscribed
	}
	n.setSubscription(who, c.state)
	p.save(tx, account, n)
	p.stated(tx, out, account, n, []change{c})
	return nil
}
