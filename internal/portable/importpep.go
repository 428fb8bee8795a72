package portable

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// node is one of personal eventing that is being imported.
type node struct {
	rec        store.PEPNode
	configured bool
	last       time.Time // of its items
	entities   int       // bytes of who has a part in it
	parts      int       // in which it came
	items      map[string]bool
}

// whitelist is the access model of a node whose own one is not known: its items may be private.
const whitelist = "whitelist"

// node finds or makes one; nil where it is not imported.
func (a *incoming) node(name string) *node {
	if why, omemo := neverMoved(name); why != "" {
		a.result.OMEMO = a.result.OMEMO || omemo
		_ = a.lose("node or item of "+short(name), why)
		return nil
	}
	n := a.nodes[name]
	switch {
	case n != nil:
		return n
	case name == "" || len(name) > maxKeyText || len(a.nodes) >= maxNodes || !printable(name):
		_ = a.lose("a node or item of one", "the node's name can not be used, or there are too many nodes")
		return nil
	}
	n = &node{
		rec: store.PEPNode{Created: a.began.Truncate(time.Second), Config: map[string][]string{"access_model": {whitelist}}}, items: map[string]bool{},
	}
	a.nodes[name] = n
	a.result.Counts.Nodes++
	return n
}

// printable: names are parts of keys.
func printable(name string) bool {
	for i := range len(name) {
		if name[i] < ' ' {
			return false
		}
	}
	return true
}

// Node implements Sink.
func (im *Importer) Node(in Node) error {
	a := im.cur
	n := a.node(in.Name)
	if n == nil {
		return nil
	}
	if in.Config != nil {
		var left []string
		n.rec.Config, left = im.opt.Nodes.Kept(in.Config)
		n.configured = true
		for _, f := range left {
			_ = a.lose("the setting "+short(f)+" of a node", "this box does not have it, or not that value")
		}
	}
	if !in.Created.IsZero() && in.Created.Before(a.began) {
		n.rec.Created = in.Created
	}
	if n.parts++; n.parts > maxParts {
		return a.lose("a part of the settings of a node", "there are too many")
	}
	before := a.entityBytes
	n.rec.Affiliations = a.entities(n.rec.Affiliations, in.Affiliations, true, "publisher", "publish-only", "member", "outcast")
	n.rec.Subscriptions = a.entities(n.rec.Subscriptions, in.Subscriptions, false, "subscribed", "pending")
	n.entities += a.entityBytes - before
	a.pepBytes += len(in.Name) + 256
	rec := n.rec
	rec.Config, rec.Affiliations, rec.Subscriptions = maps.Clone(rec.Config), maps.Clone(rec.Affiliations), maps.Clone(rec.Subscriptions)
	key := store.Key(a.to.String(), in.Name) // what waits to be written holds nothing else of what was read
	return a.write(1024+n.entities, func(tx *store.Tx) error {
		store.PEPNodes.Put(tx, key, rec)
		return nil
	})
}

// entities adds states of others towards a node.
func (a *incoming) entities(have, more map[string]string, bare bool, states ...string) map[string]string {
	for _, jid := range slices.Sorted(maps.Keys(more)) {
		state := more[jid]
		j, err := xmpp.ParseJID(jid)
		switch {
		case err == nil && (j.Bare() == a.from || j.Bare() == a.to):
			continue // the owner is that by himself
		case err != nil || bare && !j.IsBare() || !slices.Contains(states, state) || len(have) >= maxEntities || a.entityBytes+len(jid) > maxEntityText:
			_ = a.lose("somebody's part in a node", "the address or the part can not be understood, or there are too many")
			continue
		}
		if have == nil {
			have = map[string]string{}
		}
		have[j.String()] = state
		a.entityBytes += len(jid)
	}
	return have
}

// Item implements Sink.
func (im *Importer) Item(name string, it Item) error {
	a := im.cur
	n := a.node(name)
	if n == nil {
		return nil
	}
	if it.ID == "" {
		it.ID = "imported-" + strconv.Itoa(len(n.items)+1)
	}
	el, err := frame.Parse(it.Payload, xmpp.NSClient, elementLimits)
	size := len(it.Payload) + len(it.ID) + len(it.Publisher) + len(name) + 64
	switch {
	case err != nil:
		return a.lose("an item of "+short(name), "it is empty")
	case len(it.Payload) > maxPayload:
		return a.lose("an item of "+short(name), "it is larger than 256 KiB")
	case len(it.ID) > maxKeyText || !printable(it.ID) || n.items[it.ID]:
		return a.lose("an item of "+short(name), "its name can not be used, or came twice")
	case len(n.items) >= maxItems || a.pepBytes+size > maxPEP:
		return a.lose("an item of "+short(name), "there is too much")
	}
	a.pepBytes += max(size, 256)
	n.items[it.ID] = true
	a.result.Counts.Items++
	rec := store.PEPItem{At: n.time(it.At, a.began), Publisher: a.publisher(it.Publisher), Payload: el.Raw}
	if len(n.items) == 1 && !n.configured { // its configuration comes later, or never
		closed := n.rec
		if err := a.write(256, func(tx *store.Tx) error {
			store.PEPNodes.Put(tx, store.Key(a.to.String(), name), closed)
			return nil
		}); err != nil {
			return err
		}
	}
	key := store.Key(a.to.String(), name, it.ID)
	return a.write(size, func(tx *store.Tx) error {
		store.PEPItems.Put(tx, key, rec)
		return nil
	})
}

// time keeps items in their order; one whose time is not known is of now.
func (n *node) time(at, now time.Time) time.Time {
	if at.IsZero() || at.After(now) {
		at = now
	}
	if !at.After(n.last) {
		at = n.last.Add(1)
	}
	n.last = at
	return at
}

func (a *incoming) publisher(jid string) string {
	if j, err := xmpp.ParseJID(jid); err == nil {
		return a.mine(j).String()
	}
	return a.to.String()
}

// finishNodes removes the items that a node does not hold.
func (a *incoming) finishNodes() error {
	for _, name := range slices.Sorted(maps.Keys(a.nodes)) {
		n := a.nodes[name]
		if !n.configured {
			_ = a.lose("the settings of node "+short(name), "they are not in the file: only its owner may read it")
		}
		most := a.im.opt.Nodes.MaxItems(n.rec.Config)
		if !n.configured || len(n.items) <= most {
			continue
		}
		over := len(n.items) - most
		a.losses.AddN(Loss{"an item of " + short(name), "the node holds no more than " + strconv.Itoa(most)}, over)
		a.result.Counts.Items -= over
		if err := a.write(1024, func(tx *store.Tx) error { return a.evict(tx, name, over) }); err != nil {
			return err
		}
	}
	return nil
}

// evict removes the oldest items.
func (a *incoming) evict(tx *store.Tx, name string, n int) error {
	type stamp struct {
		key string
		at  time.Time
	}
	var all []stamp
	for key, s := range store.PEPStamps.All(tx, a.to.String(), name) {
		all = append(all, stamp{key, s.At})
	}
	slices.SortFunc(all, func(x, y stamp) int { return x.at.Compare(y.at) })
	for _, s := range all[:min(n, len(all))] {
		store.PEPItems.Delete(tx, s.key)
	}
	return nil
}
