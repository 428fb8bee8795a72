package pep

import (
	"strconv"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// DiscoItems is what an account's disco#items query holds for who asks: without a node, the account's nodes that he may read (XEP-0163
// §6.2), with one, that node's items (XEP-0060 §5.5). Its errors are for the asker.
func (p *PEP) DiscoItems(tx *store.Tx, account, who xmpp.JID, name string) ([]byte, error) {
	if name != "" {
		return p.discoNodeItems(tx, account, who, name)
	}
	var all []byte
	for name, rec := range store.AllPEPNodes(tx, account.String()) {
		n := p.node(name, rec)
		isOwner := who.Bare() == account
		if n.mayRead(tx, account, who) != nil || !isOwner && !n.served(tx, account) {
			continue
		}
		all = append(all, xmpp.NewXML("item").Attr("jid", account.String()).Attr("node", name).Attr("name", n.cfg.get("title")).Bytes()...)
	}
	return all, nil
}

func (p *PEP) discoNodeItems(tx *store.Tx, account, who xmpp.JID, name string) ([]byte, error) {
	n, err := p.visible(tx, account, who, name)
	if err != nil {
		return nil, err
	}
	var all []byte
	live, _ := p.stamps(tx, account, n)
	for _, s := range live {
		if len(all) > p.opt.MaxReply {
			break
		}
		all = append(all, xmpp.NewXML("item").Attr("jid", account.String()).Attr("name", s.id).Bytes()...)
	}
	return all, nil
}

// visible is a node that somebody may read.
func (p *PEP) visible(tx *store.Tx, account, who xmpp.JID, name string) (*node, error) {
	n, ok := p.load(tx, account, name)
	if !ok || who.Bare() != account && !n.served(tx, account) {
		return nil, notFound()
	}
	return n, n.mayRead(tx, account, who)
}

// DiscoInfo is what an account's disco#info query with a node holds: identity, feature, and metadata (XEP-0060 §5.3, §5.4).
func (p *PEP) DiscoInfo(tx *store.Tx, account, who xmpp.JID, name string) ([]byte, error) {
	n, err := p.visible(tx, account, who, name)
	if err != nil {
		return nil, err
	}
	count := 0
	for _, state := range n.rec.Subscriptions {
		if state == subscribed {
			count++
		}
	}
	all := xmpp.NewXML("identity").Attr("category", "pubsub").Attr("type", "leaf").Attr("name", n.cfg.get("title")).Bytes()
	all = append(all, xmpp.NewXML("feature").Attr("var", NS).Bytes()...)
	x := writeForm(&xmpp.XML{}, "result", formMetadata)
	for _, f := range []string{"type", "title", "description", "language", "contact", "access_model", "publish_model", "max_items"} {
		if v := n.cfg.values(f); len(v) > 0 {
			writeField(x, "pubsub#"+f, "", "", v...)
		}
	}
	writeField(x, "pubsub#creator", "", "", account.String())
	writeField(x, "pubsub#owner", "", "", account.String())
	writeField(x, "pubsub#creation_date", "", "", n.rec.Created.Format(time.RFC3339))
	writeField(x, "pubsub#num_subscribers", "", "", strconv.Itoa(count))
	return append(all, x.Bytes()...), nil
}
