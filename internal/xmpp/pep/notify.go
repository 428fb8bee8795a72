package pep

import (
	"slices"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// target is who is told of an event.
type target struct {
	to      xmpp.JID
	session *xmpp.Session // of the account itself, else nil
	shares  bool          // sees the account's presence, so it may know the resource that published
}

// audience is who is told of the node's events now (XEP-0163 §4.3): the account's own resources and those of contacts that asked for it by
// +notify, and who subscribed.
func (p *PEP) audience(tx *store.Tx, account xmpp.JID, n *node) []target {
	if !n.cfg.on("deliver_notifications") || !n.served(tx, account) {
		return nil
	}
	a := &audience{p: p, tx: tx, account: account, node: n, seen: map[xmpp.JID]bool{}}
	for _, s := range p.r.Available(account) {
		if p.caps.WantsNotify(s.JID, n.name) {
			a.add(target{s.JID, s, true})
		}
	}
	for _, who := range p.localContacts(tx, account, store.Subscription.From) {
		for _, s := range p.r.Available(who) {
			a.resource(s.JID)
		}
	}
	for _, full := range p.listeners(account) {
		a.resource(full)
	}
	for _, jid := range sorted(n.rec.Subscriptions) {
		if n.rec.Subscriptions[jid] == subscribed {
			a.subscriber(jid)
		}
	}
	return a.list
}

type audience struct {
	p       *PEP
	tx      *store.Tx
	account xmpp.JID
	node    *node
	list    []target
	seen    map[xmpp.JID]bool // full, and bare of those with presence
}

func (a *audience) add(t target) {
	if !a.seen[t.to] {
		a.seen[t.to], a.seen[t.to.Bare()] = true, true
		a.list = append(a.list, t)
	}
}

// allowed: XEP-0060 §4.5 and, for who is blocked, XEP-0163 §4.3.3.
func (a *audience) allowed(who xmpp.JID) bool {
	return a.node.mayRead(a.tx, a.account, who) == nil && !a.p.blocks.Blocked(a.tx, a.account, who)
}

// resource is one whose presence is known.
func (a *audience) resource(full xmpp.JID) {
	if a.p.caps.WantsNotify(full, a.node.name) && a.allowed(full) {
		a.add(target{to: full, shares: contact(a.tx, a.account, full).Sub.From()})
	}
}

// subscriber is one by its own explicit request (XEP-0163 §4.3.2).
func (a *audience) subscriber(jid string) {
	who, err := xmpp.ParseJID(jid)
	if err != nil || a.seen[who] || !a.allowed(who) {
		return
	}
	own := who.Bare() == a.account
	if a.node.cfg.on("presence_based_delivery") && !a.p.online(a.account, who) {
		return
	}
	a.add(target{to: who, shares: own || contact(a.tx, a.account, who).Sub.From()})
}

// waiting are the subscribers whose request awaits an answer.
func (p *PEP) waiting(tx *store.Tx, account xmpp.JID, n *node) (list []target) {
	for _, jid := range sorted(n.rec.Subscriptions) {
		if who, err := xmpp.ParseJID(jid); err == nil && n.rec.Subscriptions[jid] == pending && !p.blocks.Blocked(tx, account, who) {
			list = append(list, target{to: who})
		}
	}
	return list
}

// localContacts are the accounts of this box in the roster whose subscription fits.
func (p *PEP) localContacts(tx *store.Tx, account xmpp.JID, fits func(store.Subscription) bool) (list []xmpp.JID) {
	prefix := store.Key(account.String(), "")
	for key, item := range store.Roster.All(tx, account.String()) {
		if _, domain, _ := strings.Cut(key[len(prefix):], "@"); item.Removed || !fits(item.Sub) || !p.r.IsLocal(domain) {
			continue
		}
		if who, err := xmpp.ParseJID(key[len(prefix):]); err == nil && p.r.Exists(who) {
			list = append(list, who)
		}
	}
	return list
}

// send queues one event for everybody told. publisher and stamp may be empty.
func (p *PEP) send(out *xmpp.Out, account xmpp.JID, n *node, told []target, event []byte, publisher, stamp string) {
	if len(told) == 0 {
		return
	}
	plain := p.message(account, n, event, "", stamp)
	full := plain
	if j, err := xmpp.ParseJID(publisher); err == nil && j.Bare() == account && !j.IsBare() {
		full = p.message(account, n, event, publisher, stamp)
	}
	for _, t := range told {
		st := plain
		if t.shares {
			st = full
		}
		// Not before its turn: the copies for everybody at once can be more than the box has memory.
		out.After(func() {
			id := newID()
			st := st.Addressed(account, t.to)
			st = st.Edited(st.With("id", id))
			st.ID = id
			if t.session != nil {
				t.session.Deliver(st)
			} else {
				out.Emit(st)
			}
		})
	}
}

// message is an event message without its addressee (XEP-0163 §4.3.1).
func (p *PEP) message(account xmpp.JID, n *node, event []byte, replyTo, stamp string) *xmpp.Stanza {
	x := xmpp.NewXML("message").Attr("type", n.cfg.get("notification_type")).Attr("from", account.String()).Raw(event)
	if replyTo != "" {
		x.Open("addresses", "http://jabber.org/protocol/address").
			Open("address", "").Attr("type", "replyto").Attr("jid", replyTo).Close().Close()
	}
	if stamp != "" {
		x.Open("delay", "urn:xmpp:delay").Attr("from", account.String()).Attr("stamp", stamp).Close()
	}
	return xmpp.Make(x.Bytes())
}

// writeItem writes an item element in the namespace around it.
func (n *node) writeItem(x *xmpp.XML, id string, item store.PEPItem, payload bool) {
	x.Open("item", "").Attr("id", id)
	if n.cfg.get("itemreply") == "publisher" {
		x.Attr("publisher", item.Publisher)
	}
	if payload {
		x.Raw(item.Payload)
	}
	x.Close()
}

func (n *node) itemEvent(id string, item store.PEPItem, with bool) []byte {
	x := xmpp.NewXMLNS("event", NSEvent).Open("items", "").AttrAlways("node", n.name)
	if with {
		n.writeItem(x, id, item, n.cfg.on("deliver_payloads"))
	}
	return x.Bytes()
}

func (p *PEP) notifyItem(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, id string, item store.PEPItem, with bool) {
	p.send(out, account, n, p.audience(tx, account, n), n.itemEvent(id, item, with), item.Publisher, "")
}

func (p *PEP) notifyRetracted(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, ids []string) {
	if len(ids) == 0 {
		return
	}
	x := xmpp.NewXMLNS("event", NSEvent).Open("items", "").AttrAlways("node", n.name)
	for _, id := range ids {
		x.Open("retract", "").Attr("id", id).Close()
	}
	p.send(out, account, n, p.audience(tx, account, n), x.Bytes(), "", "")
}

// notifyConfig is XEP-0060 §8.2.5.3.
func (p *PEP) notifyConfig(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node) {
	x := xmpp.NewXMLNS("event", NSEvent).Open("configuration", "").AttrAlways("node", n.name)
	if n.cfg.on("deliver_payloads") {
		n.cfg.write(x, "result")
	}
	p.send(out, account, n, p.audience(tx, account, n), x.Bytes(), "", "")
}

// last sends the newest item, if there is one, with the time of its publication.
func (p *PEP) last(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, told []target) {
	if len(told) == 0 || !n.cfg.on("deliver_notifications") {
		return
	}
	live, _ := p.stamps(tx, account, n)
	if len(live) == 0 {
		return
	}
	newest := live[len(live)-1]
	item, ok := store.PEPItems.Get(tx, itemKey(account, n.name, newest.id))
	if !ok {
		return
	}
	p.send(out, account, n, told, n.itemEvent(newest.id, item, true), item.Publisher, newest.at.Format("2006-01-02T15:04:05.000Z"))
}

// welcome sends the last item to who is told of the node's events now and was not before.
func (p *PEP) welcome(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node, before []target) {
	if n.cfg.get("send_last_published_item") == "never" {
		return
	}
	p.last(tx, out, account, n, slices.DeleteFunc(p.audience(tx, account, n), func(t target) bool {
		return slices.ContainsFunc(before, func(b target) bool { return b.to == t.to })
	}))
}

// SendLast tells everybody of the newest item of a node whose NodeHook.Served has become true.
func (p *PEP) SendLast(tx *store.Tx, out *xmpp.Out, account xmpp.JID, node string) {
	if n, ok := p.load(tx, account, node); ok {
		p.last(tx, out, account, n, p.audience(tx, account, n))
	}
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
