package pep

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// publication is what a publish request holds.
type publication struct {
	node    string
	item    *frame.Node // may be nil
	id      string
	payload *frame.Node // may be nil
	options form
}

// publish is XEP-0060 §7.1.
func (p *PEP) publish(tx *store.Tx, out *xmpp.Out, q *request) error {
	pub, err := readPublication(q)
	if err != nil {
		return err
	}
	return p.accept(tx, out, q, pub, func(n *node, id string) {
		answer := xmpp.NewXMLNS("pubsub", NS).Open("publish", "").AttrAlways("node", n.name)
		if pub.item != nil {
			answer.Open("item", "").Attr("id", id).Close()
		}
		q.reply(out, answer.Bytes())
	})
}

// accept does what a publication asks for. stored is called when that is written, before anybody is told of it.
func (p *PEP) accept(tx *store.Tx, out *xmpp.Out, q *request, pub publication, stored func(n *node, id string)) error {
	n, all, err := p.target(tx, q, pub)
	if err != nil {
		return err
	}
	if old, ok := store.PEPItems.Get(tx, itemKey(q.account, n.name, pub.id)); ok && !all && !publishedBy(old, q.From) {
		return forbidden() // nobody takes over what others published where anybody may
	}
	if err := n.fits(pub); err != nil {
		return err
	}
	generated := pub.id == "" && pub.item != nil
	if generated {
		pub.id = newID()
	}
	if n.hook.Publish != nil {
		if err := n.hook.Publish(tx, out, q.account, pub.id, pub.payload); err != nil {
			return err
		}
	}
	item := store.PEPItem{At: time.Now().UTC(), Publisher: q.From.String(), Payload: standalone(pub.payload)}
	var evicted []string
	if n.cfg.on("persist_items") {
		if evicted, err = p.put(tx, q, n, pub.id, &item); err != nil {
			return err
		}
	}
	stored(n, pub.id)
	if n.cfg.on("notify_retract") && n.cfg.get("publish_node_full") == "retract-oldest" {
		p.notifyRetracted(tx, out, q.account, n, evicted)
	}
	p.notifyItem(tx, out, q.account, n, pub.id, item, pub.item != nil)
	return nil
}

func readPublication(q *request) (pub publication, err error) {
	if pub.node, err = q.node(); err != nil {
		return pub, err
	}
	for _, c := range q.action.Children {
		if c.Name != "item" || c.NS != NS {
			return pub, malformed("only an item can be published")
		}
		if pub.item != nil {
			return pub, malformed("one item is published at a time") // XEP-0060 §7.1.1
		}
		pub.item = c
	}
	if pub.item != nil {
		pub.id = pub.item.Attr("id")
		if len(pub.id) > maxName {
			return pub, unacceptable("the item's id is too long")
		}
		if len(pub.item.Children) > 1 {
			return pub, fault(stanza.BadRequest, "invalid-payload", "an item holds one element")
		}
		if len(pub.item.Children) == 1 {
			pub.payload = pub.item.Children[0]
		}
	}
	if opts := q.beside(NS, "publish-options"); opts != nil {
		f, ok, err := readForm(opts)
		if err != nil {
			return pub, err
		}
		if !ok || f.scope != formOptions || f.typ != "submit" {
			return pub, malformed("publish-options hold a submitted form of their own FORM_TYPE")
		}
		pub.options = f
	}
	return pub, nil
}

// target is the node that is published to; where there is none it is made (XEP-0060 §7.1.4). all: the sender may replace what others
// published.
func (p *PEP) target(tx *store.Tx, q *request, pub publication) (n *node, all bool, err error) {
	n, exists := p.load(tx, q.account, pub.node)
	if !exists {
		if !q.owner {
			return nil, false, forbidden()
		}
		n = p.node(pub.node, store.PEPNode{})
		if err := p.configureNew(tx, q.account, n, pub.options); err != nil {
			return nil, false, err
		}
	}
	if all, err = n.mayPublish(tx, q.account, q.From); err != nil {
		return nil, false, err
	}
	if field := n.cfg.unmet(pub.options); field != "" {
		return nil, false, fault(stanza.Conflict, "precondition-not-met", "the node does not fulfil "+field)
	}
	if !exists {
		p.save(tx, q.account, n)
	}
	return n, all, nil
}

// fits checks a publication against the node's event type (XEP-0060 §4.3, §7.1.3.6).
func (n *node) fits(pub publication) error {
	kept, payloads := n.cfg.on("persist_items"), n.cfg.on("deliver_payloads")
	switch {
	case !kept && !payloads && pub.item != nil:
		return fault(stanza.BadRequest, "item-forbidden", "the node takes no items")
	case (kept || payloads) && pub.item == nil:
		return fault(stanza.BadRequest, "item-required", "the node takes items")
	case payloads && pub.payload == nil:
		return fault(stanza.BadRequest, "payload-required", "the node takes items with a payload")
	case pub.payload != nil && len(pub.payload.Raw()) > n.cfg.number("max_payload_size"):
		return fault(stanza.NotAcceptable, "payload-too-big", "the payload is too big")
	}
	return nil
}

// put stores an item as the newest of its node and removes what expired or is one too many.
func (p *PEP) put(tx *store.Tx, q *request, n *node, id string, item *store.PEPItem) (evicted []string, err error) {
	live, expired := p.stamps(tx, q.account, n)
	for _, s := range expired {
		store.PEPItems.Delete(tx, itemKey(q.account, n.name, s.id))
	}
	if len(live) > 0 {
		if newest := live[len(live)-1].at; !item.At.After(newest) { // the clock may have been set back
			item.At = newest.Add(1)
		}
	}
	full := len(live) >= n.cfg.number("max_items")
	if full && n.cfg.get("publish_node_full") == "reject" && !store.PEPItems.Has(tx, itemKey(q.account, n.name, id)) {
		return nil, fault(stanza.Conflict, "node-full", "the node is full")
	}
	store.PEPItems.Put(tx, itemKey(q.account, n.name, id), *item)
	evicted = p.evict(tx, q.account, n, live, id)
	return evicted, p.checkSpace(tx, q.account)
}

// evict removes the oldest items but the one that was just published until the node holds no more than it should.
func (p *PEP) evict(tx *store.Tx, account xmpp.JID, n *node, live []stamp, published string) (evicted []string) {
	var others []stamp
	for _, s := range live {
		if s.id != published {
			others = append(others, s)
		}
	}
	room := n.cfg.number("max_items")
	if published != "" {
		room--
	}
	for _, s := range others[:max(0, len(others)-room)] {
		store.PEPItems.Delete(tx, itemKey(account, n.name, s.id))
		evicted = append(evicted, s.id)
	}
	return evicted
}

// checkSpace refuses a write after which the account would take too much.
func (p *PEP) checkSpace(tx *store.Tx, account xmpp.JID) error {
	if n, size := store.PEPNodes.Size(tx, account.String()); max(size, n*256) > p.opt.MaxBytes {
		return xmpp.Errorf(stanza.ResourceConstraint, "this account's storage is full")
	}
	return nil
}

// standalone is the payload so that it can stand inside any other element: its default namespace is declared, too.
func standalone(n *frame.Node) []byte {
	raw := bytes.Clone(n.Raw())
	if len(raw) == 0 {
		return nil
	}
	const other = "urn:pibox:undeclared"
	el, err := frame.Parse(raw, other, frame.Limits{Bytes: 1 << 30, Depth: 1 << 20, Attrs: 1 << 20, Children: 1 << 30})
	if err != nil || !within(el.Node(), other) {
		return raw
	}
	at := 1 + bytes.IndexAny(raw[1:], " \t\r\n/>")
	return append(append(append([]byte{}, raw[:at]...), " xmlns='"+xmpp.NSClient+"'"...), raw[at:]...)
}

// within tells whether an element of the tree is in a namespace.
func within(n *frame.Node, ns string) bool {
	if n == nil || n.NS == ns {
		return n != nil
	}
	for _, c := range n.Children {
		if within(c, ns) {
			return true
		}
	}
	return false
}

func publishedBy(item store.PEPItem, who xmpp.JID) bool {
	j, err := xmpp.ParseJID(item.Publisher)
	return err == nil && j.Bare() == who.Bare()
}

// newID is unguessable: 80 bits.
func newID() string {
	var b [10]byte
	_, _ = rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// retract is XEP-0060 §7.2.
func (p *PEP) retract(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	if len(q.action.Children) > 1 {
		return malformed("one item is retracted at a time")
	}
	id := q.action.Child(NS, "item").Attr("id")
	if id == "" {
		return fault(stanza.BadRequest, "item-required", "the request names no item")
	}
	all, err := n.mayPublish(tx, q.account, q.From)
	if err != nil {
		return err
	}
	if !n.cfg.on("persist_items") {
		return unsupported("persistent-items")
	}
	key := itemKey(q.account, n.name, id)
	item, ok := store.PEPItems.Get(tx, key)
	if ok && !all && !publishedBy(item, q.From) {
		return forbidden()
	}
	if !ok || n.expired(item.At) {
		return notFound()
	}
	store.PEPItems.Delete(tx, key)
	q.reply(out, nil)
	p.retracted(tx, out, q.account, n)
	switch q.action.Attr("notify") {
	case "1", "true":
		p.notifyRetracted(tx, out, q.account, n, []string{id})
	default:
		if n.cfg.on("notify_retract") {
			p.notifyRetracted(tx, out, q.account, n, []string{id})
		}
	}
	return nil
}

func (p *PEP) retracted(tx *store.Tx, out *xmpp.Out, account xmpp.JID, n *node) {
	if n.hook.Retract != nil {
		n.hook.Retract(tx, out, account)
	}
}
