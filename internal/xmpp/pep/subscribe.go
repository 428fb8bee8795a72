package pep

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// change of a subscription, to be told to its subscriber.
type change struct {
	jid   xmpp.JID
	state string // subscribed, pending or none
}

// subscriber is the address that a request is about.
func subscriberOf(action *frame.Node) (xmpp.JID, error) {
	if action.Attr("jid") == "" {
		return xmpp.JID{}, fault(stanza.BadRequest, "jid-required", "the request names no subscriber")
	}
	who, err := xmpp.ParseJID(action.Attr("jid"))
	if err != nil {
		return who, fault(stanza.BadRequest, "invalid-jid", "the subscriber's address can not be understood")
	}
	return who, nil
}

// subscribe is XEP-0060 §6.1.
func (p *PEP) subscribe(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	who, err := subscriberOf(q.action)
	if err != nil {
		return err
	}
	if who.Bare() != q.From.Bare() {
		return fault(stanza.BadRequest, "invalid-jid", "everybody subscribes for himself")
	}
	if q.beside(NS, "options") != nil {
		return unsupported("subscription-options")
	}
	if !n.cfg.on("subscribe") {
		return unsupported("subscribe")
	}
	state := subscribed
	have := n.rec.Subscriptions[who.String()]
	if have == pending || n.subscription(who) == pending {
		return fault(stanza.NotAuthorized, "pending-subscription", "the owner has not answered yet")
	}
	if err := n.mayRead(tx, q.account, who); err != nil {
		if n.cfg.get("access_model") != accessAuthorize || n.affiliation(q.account, who) != none {
			return err
		}
		state = pending
	}
	if have != state {
		if err := p.addSubscription(tx, n, q.account, who, state); err != nil {
			return err
		}
	}
	q.reply(out, subscriptionXML(xmpp.NewXMLNS("pubsub", NS), n.name, who.String(), state).Bytes())
	if have == state {
		return nil
	}
	p.tellOwner(out, q.account, n, change{who, state})
	if state == pending {
		p.askOwner(out, q.account, n, who)
	} else if n.cfg.get("send_last_published_item") != "never" && n.served(tx, q.account) {
		p.last(tx, out, q.account, n, []target{{to: who, shares: contact(tx, q.account, who).Sub.From()}})
	}
	return nil
}

func (p *PEP) addSubscription(tx *store.Tx, n *node, account, who xmpp.JID, state string) error {
	if len(n.rec.Subscriptions) >= p.opt.MaxEntities {
		e := fault(stanza.PolicyViolation, "too-many-subscriptions", "the node has too many subscriptions")
		e.Type = stanza.Wait // §6.1.3.9
		return e
	}
	n.setSubscription(who, state)
	p.save(tx, account, n)
	return p.checkSpace(tx, account)
}

func (n *node) setSubscription(who xmpp.JID, state string) {
	if state == none {
		delete(n.rec.Subscriptions, who.String())
		return
	}
	if n.rec.Subscriptions == nil {
		n.rec.Subscriptions = map[string]string{}
	}
	n.rec.Subscriptions[who.String()] = state
}

func subscriptionXML(x *xmpp.XML, node, jid, state string) *xmpp.XML {
	return x.Open("subscription", "").Attr("node", node).Attr("jid", jid).Attr("subscription", state).Close()
}

// unsubscribe is XEP-0060 §6.2.
func (p *PEP) unsubscribe(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	who, err := subscriberOf(q.action)
	if err != nil {
		return err
	}
	if who.Bare() != q.From.Bare() {
		return forbidden()
	}
	if n.rec.Subscriptions[who.String()] == "" {
		e := fault(stanza.UnexpectedRequest, "not-subscribed", "")
		e.Type = stanza.Cancel // §6.2.3.2
		return e
	}
	n.setSubscription(who, none)
	p.save(tx, q.account, n)
	q.reply(out, subscriptionXML(xmpp.NewXMLNS("pubsub", NS), n.name, who.String(), none).Bytes())
	p.tellOwner(out, q.account, n, change{who, none})
	return nil
}

// tellOwner is the node option notify_sub.
func (p *PEP) tellOwner(out *xmpp.Out, account xmpp.JID, n *node, c change) {
	if !n.cfg.on("notify_sub") {
		return
	}
	var told []target
	for _, s := range p.r.Available(account) {
		told = append(told, target{to: s.JID, session: s})
	}
	p.send(out, account, n, told, subscriptionXML(xmpp.NewXMLNS("event", NSEvent), n.name, c.jid.String(), c.state).Bytes(), "", "")
}

// notifyStates tells subscribers what became of their subscriptions (XEP-0060 §12.11).
func (p *PEP) notifyStates(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, changes []change) {
	for _, c := range changes {
		if p.blocks.Blocked(tx, account, c.jid) {
			continue
		}
		event := subscriptionXML(xmpp.NewXMLNS("event", NSEvent), n.name, c.jid.String(), c.state)
		p.send(out, account, n, []target{{to: c.jid}}, event.Bytes(), "", "")
	}
}

// settle brings explicit subscriptions in line with the node's access model, affiliations and the roster.
func (p *PEP) settle(tx *store.Tx, account xmpp.JID, n *node) (changes []change) {
	for _, jid := range sorted(n.rec.Subscriptions) {
		have := n.rec.Subscriptions[jid]
		who, err := xmpp.ParseJID(jid)
		if err != nil {
			continue
		}
		next := none
		if n.mayRead(tx, account, who) == nil {
			next = subscribed
		} else if have == pending && n.cfg.get("access_model") == accessAuthorize && n.affiliation(account, who) == none {
			next = pending
		}
		if next != have {
			n.setSubscription(who, next)
			changes = append(changes, change{who, next})
		}
	}
	return changes
}

// ownSubscriptions is XEP-0060 §5.6.
func (p *PEP) ownSubscriptions(tx *store.Tx, q *request) ([]byte, error) {
	x := xmpp.NewXMLNS("pubsub", NS).Open("subscriptions", "").Attr("node", q.action.Attr("node"))
	err := p.eachFor(tx, q, func(n *node) {
		for _, jid := range sorted(n.rec.Subscriptions) {
			if who, err := xmpp.ParseJID(jid); err == nil && who.Bare() == q.From.Bare() {
				subscriptionXML(x, n.name, jid, n.rec.Subscriptions[jid])
			}
		}
	})
	return x.Bytes(), err
}

// eachFor calls f for the node that the request names, or for all that exist for who asks.
func (p *PEP) eachFor(tx *store.Tx, q *request, f func(*node)) error {
	if q.action.HasAttr("node") {
		n, err := p.named(tx, q)
		if err == nil {
			f(n)
		}
		return err
	}
	for name, rec := range store.AllPEPNodes(tx, q.account.String()) {
		if n := p.node(name, rec); q.owner || n.served(tx, q.account) {
			f(n)
		}
	}
	return nil
}

// subscriptionsOf is XEP-0060 §8.8.1. Requests that await an answer are among them, as there is no other way to list them.
func (p *PEP) subscriptionsOf(tx *store.Tx, q *request) ([]byte, error) {
	n, err := p.named(tx, q)
	if err != nil {
		return nil, err
	}
	x := xmpp.NewXMLNS("pubsub", NSOwner).Open("subscriptions", "").AttrAlways("node", n.name)
	for _, jid := range sorted(n.rec.Subscriptions) {
		x.Open("subscription", "").Attr("jid", jid).Attr("subscription", n.rec.Subscriptions[jid]).Close()
	}
	return x.Bytes(), nil
}

// setSubscriptions is XEP-0060 §8.8.2: all of them or none.
func (p *PEP) setSubscriptions(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	refused := xmpp.NewXMLNS("pubsub", NSOwner).Open("subscriptions", "").AttrAlways("node", n.name)
	ok := true
	var changes []change
	seen := map[xmpp.JID]bool{}
	for _, c := range q.action.Children {
		who, err := subscriberOf(c)
		if err != nil {
			return err
		}
		if c.Name != "subscription" || c.NS != NSOwner || seen[who] {
			return malformed("each subscriber is named once")
		}
		seen[who] = true
		have, want := n.rec.Subscriptions[who.String()], c.Attr("subscription")
		if have == "" {
			have = none
		}
		refused.Open("subscription", "").Attr("jid", who.String()).Attr("subscription", have).Close()
		switch aff := n.affiliation(q.account, who); {
		case want == "" || want == have:
		case want == none, want == subscribed && aff != outcast && aff != publishOnly:
			n.setSubscription(who, want)
			changes = append(changes, change{who, want})
		default:
			ok = false
		}
	}
	if !ok || len(n.rec.Subscriptions) > p.opt.MaxEntities {
		return partly(refused.Bytes(), "nothing was changed")
	}
	p.save(tx, q.account, n)
	if err := p.checkSpace(tx, q.account); err != nil {
		return err
	}
	q.reply(out, nil)
	p.stated(tx, out, q.account, n, changes)
	return nil
}

// stated tells subscribers of changes that the owner made; new ones get the last item.
func (p *PEP) stated(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, changes []change) {
	p.notifyStates(tx, out, account, n, changes)
	if n.cfg.get("send_last_published_item") == "never" {
		return
	}
	for _, c := range changes {
		if c.state == subscribed && n.mayRead(tx, account, c.jid) == nil && n.served(tx, account) && !p.blocks.Blocked(tx, account, c.jid) {
			p.last(tx, out, account, n, []target{{to: c.jid, shares: contact(tx, account, c.jid).Sub.From()}})
		}
	}
}
