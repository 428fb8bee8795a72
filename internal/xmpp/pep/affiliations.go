package pep

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

func affiliationXML(x *xmpp.XML, key, value, affiliation string) {
	x.Open("affiliation", "").Attr(key, value).Attr("affiliation", affiliation).Close()
}

// ownAffiliations is XEP-0060 §5.7.
func (p *PEP) ownAffiliations(tx *store.Tx, q *request) ([]byte, error) {
	x := xmpp.NewXMLNS("pubsub", NS).Open("affiliations", "").Attr("node", q.action.Attr("node"))
	err := p.eachFor(tx, q, func(n *node) {
		if a := n.affiliation(q.account, q.From); a != none {
			affiliationXML(x, "node", n.name, a)
		}
	})
	return x.Bytes(), err
}

// affiliationsOf is XEP-0060 §8.9.1.
func (p *PEP) affiliationsOf(tx *store.Tx, q *request) ([]byte, error) {
	n, err := p.named(tx, q)
	if err != nil {
		return nil, err
	}
	x := xmpp.NewXMLNS("pubsub", NSOwner).Open("affiliations", "").AttrAlways("node", n.name)
	affiliationXML(x, "jid", q.account.String(), owner)
	for _, jid := range sorted(n.rec.Affiliations) {
		affiliationXML(x, "jid", jid, n.rec.Affiliations[jid])
	}
	return x.Bytes(), nil
}

// setAffiliations is XEP-0060 §8.9.2: all of them or none. The account stays the only owner (XEP-0163 §2.2).
func (p *PEP) setAffiliations(tx *store.Tx, out *xmpp.Out, q *request) error {
	n, err := p.named(tx, q)
	if err != nil {
		return err
	}
	before := p.audience(tx, q.account, n)
	refused := xmpp.NewXMLNS("pubsub", NSOwner).Open("affiliations", "").AttrAlways("node", n.name)
	ok := true
	seen := map[xmpp.JID]bool{}
	for _, c := range q.action.Children {
		who, err := xmpp.ParseJID(c.Attr("jid"))
		if err != nil || !who.IsBare() {
			return fault(stanza.BadRequest, "invalid-jid", "an affiliation is a bare address's")
		}
		if c.Name != "affiliation" || c.NS != NSOwner || seen[who] {
			return malformed("each address is named once") // §8.9.2.4
		}
		seen[who] = true
		have, want := n.affiliation(q.account, who), c.Attr("affiliation")
		affiliationXML(refused, "jid", who.String(), have)
		switch {
		case want == "" || want == have:
		case !transition(have, want):
			ok = false
		default:
			n.setAffiliation(who, want)
		}
	}
	if !ok || len(n.rec.Affiliations) > p.opt.MaxEntities {
		return partly(refused.Bytes(), "nothing was changed")
	}
	changes := p.settle(tx, q.account, n)
	p.save(tx, q.account, n)
	if err := p.checkSpace(tx, q.account); err != nil {
		return err
	}
	q.reply(out, nil)
	p.notifyStates(tx, out, q.account, n, changes)
	p.welcome(tx, out, q.account, n, before)
	return nil
}

// transition is the table of XEP-0060 §4.1.
func transition(have, want string) bool {
	switch want {
	case none, outcast, publisher, publishOnly:
		return have != owner
	case member:
		return have != owner && have != publisher
	}
	return false
}

func (n *node) setAffiliation(who xmpp.JID, affiliation string) {
	if affiliation == none {
		delete(n.rec.Affiliations, who.String())
		return
	}
	if n.rec.Affiliations == nil {
		n.rec.Affiliations = map[string]string{}
	}
	n.rec.Affiliations[who.String()] = affiliation
}
