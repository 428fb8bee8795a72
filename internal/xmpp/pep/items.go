package pep

import (
	"slices"
	"strconv"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

const (
	nsRSM        = "http://jabber.org/protocol/rsm"
	nsRSMFeature = NS + "#rsm"
)

// items is XEP-0060 §6.5.
func (p *PEP) items(tx *store.Tx, q *request) ([]byte, error) {
	n, err := p.named(tx, q)
	if err != nil {
		return nil, err
	}
	if err := n.mayRetrieve(tx, q.account, q.From); err != nil {
		return nil, err
	}
	if !n.cfg.on("persist_items") {
		return nil, unsupported("persistent-items")
	}
	x := xmpp.NewXMLNS("pubsub", NS).Open("items", "").AttrAlways("node", n.name)
	if len(q.action.Children) > 0 {
		err = p.itemsByID(tx, q, n, x)
	} else {
		err = p.itemsByPage(tx, q, n, x)
	}
	if err != nil {
		return nil, err
	}
	return x.Bytes(), nil
}

// itemsByID returns those of the items asked for that there are, in the order of the request.
func (p *PEP) itemsByID(tx *store.Tx, q *request, n *node, x *xmpp.XML) error {
	size := 0
	done := map[string]bool{}
	for _, c := range q.action.Children {
		id := c.Attr("id")
		if c.Name != "item" || c.NS != NS || id == "" {
			return malformed("items are asked for by their ids")
		}
		item, ok := store.PEPItems.Get(tx, itemKey(q.account, n.name, id))
		if !ok || done[id] || n.expired(item.At) {
			continue
		}
		if size += len(item.Payload); size > p.opt.MaxReply && len(done) > 0 {
			break
		}
		done[id] = true
		n.writeItem(x, id, item, true)
	}
	x.Close()
	return nil
}

// itemsByPage returns a page of the node's items, the oldest first. Where they do not fit into one answer and the request does not page,
// these are the newest (XEP-0060 §6.5.4, XEP-0059).
func (p *PEP) itemsByPage(tx *store.Tx, q *request, n *node, x *xmpp.XML) error {
	all, _ := p.stamps(tx, q.account, n)
	if q.action.HasAttr("max_items") {
		most, err := strconv.Atoi(q.action.Attr("max_items"))
		if err != nil || most < 1 {
			return malformed("max_items is a positive number")
		}
		all = all[max(0, len(all)-most):]
	}
	pg, err := readPage(q.beside(nsRSM, "set"))
	if err != nil {
		return err
	}
	from, to, err := pg.cut(all)
	if err != nil {
		return err
	}
	chosen, items := p.fill(tx, q, n, all[from:to], pg.backwards)
	for i, s := range chosen {
		n.writeItem(x, s.id, items[i], true)
	}
	x.Close()
	if !pg.asked && len(chosen) == len(all) {
		return nil
	}
	x.Open("set", nsRSM)
	if len(chosen) > 0 {
		first := slices.IndexFunc(all, func(s stamp) bool { return s.id == chosen[0].id })
		x.Open("first", "").Attr("index", strconv.Itoa(first)).Text(chosen[0].id).Close()
		x.Leaf("last", "", chosen[len(chosen)-1].id)
	}
	x.Leaf("count", "", strconv.Itoa(len(all))).Close()
	return nil
}

// fill reads as many of these items as fit into an answer, from one end or the other.
func (p *PEP) fill(tx *store.Tx, q *request, n *node, some []stamp, backwards bool) (chosen []stamp, items []store.PEPItem) {
	some = slices.Clone(some)
	if backwards {
		slices.Reverse(some)
	}
	size := 0
	for _, s := range some {
		item, ok := store.PEPItems.Get(tx, itemKey(q.account, n.name, s.id))
		if !ok {
			continue
		}
		if size += len(item.Payload) + len(s.id) + 32; size > p.opt.MaxReply && len(chosen) > 0 {
			break
		}
		chosen, items = append(chosen, s), append(items, item)
	}
	if backwards {
		slices.Reverse(chosen)
		slices.Reverse(items)
	}
	return chosen, items
}

// page is a request of XEP-0059.
type page struct {
	asked         bool
	most          int // -1: as many as possible
	index         int // -1: not given
	after, before *string
	backwards     bool
}

func readPage(set *frame.Node) (page, error) {
	pg := page{most: -1, index: -1, backwards: true}
	if set == nil {
		return pg, nil
	}
	pg.asked, pg.backwards = true, false
	for _, c := range set.Children {
		var err error
		switch c.Name {
		case "max":
			pg.most, err = strconv.Atoi(strings.TrimSpace(c.Text))
		case "index":
			pg.index, err = strconv.Atoi(strings.TrimSpace(c.Text))
		case "after":
			pg.after = &c.Text
		case "before":
			pg.before, pg.backwards = &c.Text, true
		}
		if err != nil || c.Name == "max" && pg.most < 0 || c.Name == "index" && pg.index < 0 {
			return page{}, malformed("a page is described by numbers and ids")
		}
	}
	return pg, nil
}

// cut is the part of all items that the page is.
func (pg page) cut(all []stamp) (from, to int, err error) {
	from, to = 0, len(all)
	find := func(id string) int { return slices.IndexFunc(all, func(s stamp) bool { return s.id == id }) }
	if pg.after != nil && *pg.after != "" {
		i := find(*pg.after)
		if i < 0 {
			return 0, 0, xmpp.Errorf(stanza.ItemNotFound, "") // XEP-0059 §2.2
		}
		from = i + 1
	}
	if pg.before != nil && *pg.before != "" {
		if to = find(*pg.before); to < 0 {
			return 0, 0, xmpp.Errorf(stanza.ItemNotFound, "")
		}
	}
	if pg.index >= 0 {
		from = min(pg.index, len(all))
	}
	to = max(from, to)
	if pg.most >= 0 && to-from > pg.most {
		if pg.backwards {
			from = to - pg.most
		} else {
			to = from + pg.most
		}
	}
	return from, to, nil
}
