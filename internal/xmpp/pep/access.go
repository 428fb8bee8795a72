package pep

import (
	"slices"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// node is a node as a request sees it.
type node struct {
	name string
	rec  store.PEPNode
	cfg  config
	hook NodeHook
}

// Affiliations (XEP-0060 §4.1).
const (
	owner       = "owner"
	publisher   = "publisher"
	publishOnly = "publish-only"
	member      = "member"
	outcast     = "outcast"
	none        = "none"
)

// Subscription states (XEP-0060 §4.2).
const (
	subscribed = "subscribed"
	pending    = "pending"
)

func (p *PEP) node(name string, rec store.PEPNode) *node {
	return &node{name: name, rec: rec, cfg: config{p, rec.Config}, hook: p.hooks[name]}
}

func (p *PEP) load(tx *store.Tx, account xmpp.JID, name string) (*node, bool) {
	rec, ok := store.PEPNodes.Get(tx, store.Key(account.String(), name))
	if !ok {
		return nil, false
	}
	return p.node(name, rec), true
}

func (p *PEP) save(tx *store.Tx, account xmpp.JID, n *node) {
	n.rec.Config = n.cfg.set
	store.PEPNodes.Put(tx, store.Key(account.String(), n.name), n.rec)
}

// named is the node that the request names, as far as it exists for who asks.
func (p *PEP) named(tx *store.Tx, q *request) (*node, error) {
	name, err := q.node()
	if err != nil {
		return nil, err
	}
	n, ok := p.load(tx, q.account, name)
	if !ok || !q.owner && !n.served(tx, q.account) {
		return nil, notFound()
	}
	return n, nil
}

func (n *node) hooked() bool {
	return n.hook.Publish != nil || n.hook.Retract != nil || n.hook.CanRead != nil || n.hook.Served != nil
}

func (n *node) served(tx *store.Tx, account xmpp.JID) bool {
	return n.hook.Served == nil || n.hook.Served(tx, account)
}

func (n *node) affiliation(account, who xmpp.JID) string {
	if who.Bare() == account {
		return owner
	}
	if a := n.rec.Affiliations[who.Bare().String()]; a != "" {
		return a
	}
	return none
}

// subscription is the state of an explicit subscription of the JID, or of the bare one; "" where there is none.
func (n *node) subscription(who xmpp.JID) string {
	if s := n.rec.Subscriptions[who.String()]; s != "" {
		return s
	}
	return n.rec.Subscriptions[who.Bare().String()]
}

func contact(tx *store.Tx, account, who xmpp.JID) store.RosterItem {
	item, ok := store.Roster.Get(tx, store.Key(account.String(), who.Bare().String()))
	if !ok || item.Removed {
		return store.RosterItem{Sub: store.SubNone}
	}
	return item
}

// mayRead says whether somebody may retrieve the node's items and be told of new ones (XEP-0060 §4.5).
func (n *node) mayRead(tx *store.Tx, account, who xmpp.JID) error {
	switch n.affiliation(account, who) {
	case owner, publisher, member:
		return nil
	case outcast, publishOnly:
		return forbidden()
	}
	model := n.cfg.get("access_model")
	switch model {
	case accessOpen:
		return nil
	case accessAuthorize:
		if n.subscription(who) == subscribed {
			return nil
		}
		return fault(stanza.NotAuthorized, "not-subscribed", "")
	case accessWhitelist:
		return fault(stanza.NotAllowed, "closed-node", "")
	}
	switch {
	case n.admits(contact(tx, account, who)):
		return nil
	case model == accessPresence:
		return fault(stanza.NotAuthorized, "presence-subscription-required", "")
	}
	return fault(stanza.NotAuthorized, "not-in-roster-group", "")
}

// admits tells whether the access models presence and roster let a contact in.
func (n *node) admits(item store.RosterItem) bool {
	return item.Sub.From() &&
		(n.cfg.get("access_model") == accessPresence || shareOne(item.Groups, n.cfg.values("roster_groups_allowed")))
}

func shareOne(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// mayRetrieve is mayRead for the retrieval of items alone.
func (n *node) mayRetrieve(tx *store.Tx, account, who xmpp.JID) error {
	err := n.mayRead(tx, account, who)
	if err == nil || n.hook.CanRead == nil || n.cfg.get("access_model") != accessPresence || n.affiliation(account, who) != none {
		return err
	}
	if n.hook.CanRead(tx, account, who) {
		return nil
	}
	return err
}

// mayPublish says whether somebody may publish. all: he may also retract what others published.
func (n *node) mayPublish(tx *store.Tx, account, who xmpp.JID) (all bool, err error) {
	aff := n.affiliation(account, who)
	if aff == owner {
		return true, nil
	}
	if n.hooked() || aff == outcast {
		return false, forbidden()
	}
	switch model := n.cfg.get("publish_model"); {
	case aff == publisher:
		return true, nil
	case aff == publishOnly, model == "open":
		return false, nil
	case model == "subscribers" && n.mayRead(tx, account, who) == nil &&
		(n.subscription(who) == subscribed || contact(tx, account, who).Sub.From()):
		return false, nil
	}
	return false, forbidden()
}

// items and their order

func itemKey(account xmpp.JID, node, id string) string { return store.Key(account.String(), node, id) }

// stamp is an item's place in the order of a node.
type stamp struct {
	id string
	at time.Time
}

// stamps are the node's items from the oldest to the newest, without those that expired.
func (p *PEP) stamps(tx *store.Tx, account xmpp.JID, n *node) (live, expired []stamp) {
	prefix := len(itemKey(account, n.name, ""))
	for key, s := range store.PEPStamps.All(tx, account.String(), n.name) {
		if st := (stamp{key[prefix:], s.At}); n.expired(s.At) {
			expired = append(expired, st)
		} else {
			live = append(live, st)
		}
	}
	slices.SortFunc(live, func(a, b stamp) int { return a.at.Compare(b.at) })
	return live, expired
}

func (n *node) expired(at time.Time) bool {
	return n.cfg.get("item_expire") != "max" && time.Since(at) >= time.Duration(n.cfg.number("item_expire"))*time.Second
}
