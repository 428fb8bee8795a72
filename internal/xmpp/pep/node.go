package pep

import (
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// create is XEP-0060 §8.1.
func (p *PEP) create(tx *store.Tx, out *xmpp.Out, q *request) error {
	if !q.owner {
		return forbidden()
	}
	name := q.action.Attr("node")
	instant := name == ""
	if instant {
		name = newID()
	} else if len(name) > maxName {
		return unacceptable("the node's name is too long")
	}
	if _, exists := p.load(tx, q.account, name); exists {
		return xmpp.Errorf(stanza.Conflict, "there is such a node")
	}
	var f form
	if c := q.beside(NS, "configure"); c != nil {
		if c.HasAttr("node") {
			return malformed("the configuration is of the node that is created") // §8.1.3
		}
		var ok bool
		var err error
		if f, ok, err = readForm(c); err != nil {
			return err
		}
		if ok && (f.scope != formConfig || f.typ != "submit") {
			return malformed("the configuration is a submitted form of its FORM_TYPE")
		}
	}
	n := p.node(name, store.PEPNode{})
	if err := p.configureNew(tx, q.account, n, f); err != nil {
		return err
	}
	p.save(tx, q.account, n)
	if err := p.checkSpace(tx, q.account); err != nil {
		return err
	}
	var payload []byte
	if instant {
		payload = xmpp.NewXMLNS("pubsub", NS).Open("create", "").Attr("node", name).Bytes()
	}
	q.reply(out, payload)
	return nil
}

// configureNew gives a node that is to be made its configuration.
func (p *PEP) configureNew(tx *store.Tx, account xmpp.JID, n *node, f form) error {
	have := 0
	for range store.AllPEPNodes(tx, account.String()) {
		have++
	}
	if have >= p.opt.MaxNodes {
		return fault(stanza.PolicyViolation, "max-nodes-exceeded", "this account has too many nodes")
	}
	n.rec.Created = time.Now().UTC().Truncate(time.Second)
	return n.reconfigure(f)
}

// reconfigure applies a form.
func (n *node) reconfigure(f form) (err error) {
	if n.cfg, err = n.cfg.with(f); err != nil {
		return err
	}
	if n.hooked() && (!n.cfg.on("persist_items") || n.cfg.get("item_expire") != "max") {
		return unacceptable("the items of this node are kept")
	}
	return nil
}

// configuration is XEP-0060 §8.2.1.
func (p *PEP) configuration(tx *store.Tx, q *request) ([]byte, error) {
	n, err := p.named(tx, q)
	if err != nil {
		return nil, err
	}
	x := xmpp.NewXMLNS("pubsub", NSOwner).Open("configure", "").AttrAlways("node", n.name)
	return n.cfg.write(x, "form").Bytes(), nil
}

// defaultConfiguration is XEP-0060 §8.3.
func (p *PEP) defaultConfiguration(*store.Tx, *request) ([]byte, error) {
	return config{p, nil}.write(xmpp.NewXMLNS("pubsub", NSOwner).Open("default", ""), "form").Bytes(), nil
}

// configure is XEP-0060 §8.2.4.
func (p *PEP) configure(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	f, ok, err := readForm(q.action)
	if err != nil {
		return err
	}
	if ok && f.typ == "cancel" {
		q.reply(out, nil)
		return nil
	}
	if !ok || f.scope != formConfig || f.typ != "submit" {
		return malformed("a configuration is a submitted form of its FORM_TYPE")
	}
	before := p.audience(tx, q.account, n)
	kept := n.cfg.on("persist_items")
	if err := n.reconfigure(f); err != nil {
		return err
	}
	var evicted []string
	switch live, _ := p.stamps(tx, q.account, n); {
	case kept && !n.cfg.on("persist_items"):
		store.PEPItems.Clear(tx, q.account.String(), n.name)
	default:
		evicted = p.evict(tx, q.account, n, live, "")
	}
	changes := p.settle(tx, q.account, n)
	p.save(tx, q.account, n)
	if err := p.checkSpace(tx, q.account); err != nil {
		return err
	}
	q.reply(out, nil)
	if n.cfg.on("notify_retract") {
		p.notifyRetracted(tx, out, q.account, n, evicted)
	}
	if n.cfg.on("notify_config") {
		p.notifyConfig(tx, out, q.account, n)
	}
	p.notifyStates(tx, out, q.account, n, changes)
	p.welcome(tx, out, q.account, n, before)
	return nil
}

// purge is XEP-0060 §8.5.
func (p *PEP) purge(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	if !n.cfg.on("persist_items") {
		return unsupported("persistent-items")
	}
	store.PEPItems.Clear(tx, q.account.String(), n.name)
	q.reply(out, nil)
	p.retracted(tx, out, q.account, n)
	if n.cfg.on("notify_retract") {
		event := xmpp.NewXMLNS("event", NSEvent).Open("purge", "").AttrAlways("node", n.name).Bytes()
		p.send(out, q.account, n, p.audience(tx, q.account, n), event, "", "")
	}
	return nil
}

// deleteNode is XEP-0060 §8.4.
func (p *PEP) deleteNode(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	var told []target
	if n.cfg.on("notify_delete") {
		told = append(p.audience(tx, q.account, n), p.waiting(tx, q.account, n)...)
	}
	store.PEPItems.Clear(tx, q.account.String(), n.name)
	store.PEPNodes.Delete(tx, store.Key(q.account.String(), n.name))
	q.reply(out, nil)
	p.retracted(tx, out, q.account, n)
	event := xmpp.NewXMLNS("event", NSEvent).Open("delete", "").AttrAlways("node", n.name)
	if uri := q.action.Child(NSOwner, "redirect").Attr("uri"); uri != "" && len(uri) <= 3*maxName {
		event.Open("redirect", "").Attr("uri", uri).Close()
	}
	p.send(out, q.account, n, told, event.Bytes(), "", "")
	return nil
}
