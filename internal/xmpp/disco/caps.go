package disco

import (
	"slices"
	"strings"
	"sync"
	"time"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// CapsOptions are the limits of what is kept of others' capabilities, with their defaults.
type CapsOptions struct {
	// Timeout of a question. Default 30 s.
	Timeout time.Duration
	// MaxCached verification strings. Default 1000.
	MaxCached int
	// MaxResources that one contact of an account may have, and MaxStrangers, resources of no contact, that an account knows. Beyond them
	// the oldest is forgotten. Defaults 32 and 50.
	MaxResources, MaxStrangers int
	// MaxAsking questions under way at once, and MaxPerDomain to one domain. Others wait. Defaults 64 and 8.
	MaxAsking, MaxPerDomain int
}

func (o *CapsOptions) defaults() {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.MaxCached, 1000}, {&o.MaxResources, 32}, {&o.MaxStrangers, 50}, {&o.MaxAsking, 64}, {&o.MaxPerDomain, 8}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// Caps knows of the resources whose presence accounts of this box see, the account's own and its contacts', what they want to be notified of.
// It learns that from the capabilities in their presence, which it looks up once per verification string.
type Caps struct {
	r      *xmpp.Router
	opt    CapsOptions
	onCaps []func(account, full xmpp.JID) // fixed after start

	mu        sync.RWMutex
	resources map[xmpp.JID]*resource
	shelves   map[shelf][]xmpp.JID
	verified  *cache
	questions questions
}

// resource is one that is available.
type resource struct {
	tag      tag
	nodes    []string // wanted; of an older tag until the new one is known
	known    bool     // the tag's capabilities are
	accounts []xmpp.JID
}

// shelf bounds what an account keeps of one contact, or of all strangers together (contact zero).
type shelf struct{ account, contact xmpp.JID }

// tag is the capabilities element of presence (XEP-0115 §4).
type tag struct{ node, ver, hash, ext string }

const maxTag = 1024 // bytes of all attributes

func readTag(st *xmpp.Stanza) (t tag, ok bool) {
	if !st.HasChild(NSCaps, "c") || st.HasChild(nsOccupant, "x") { // occupants of a room take no questions from accounts
		return t, false
	}
	c := st.Node().Child(NSCaps, "c")
	t = tag{c.Attr("node"), c.Attr("ver"), c.Attr("hash"), c.Attr("ext")}
	if len(t.node)+len(t.ver)+len(t.hash)+len(t.ext) > maxTag {
		return t, false
	}
	return tag{strings.Clone(t.node), strings.Clone(t.ver), strings.Clone(t.hash), strings.Clone(t.ext)}, true
}

func trackCaps(r *xmpp.Router, opt CapsOptions) *Caps {
	opt.defaults()
	c := &Caps{
		r: r, opt: opt, resources: map[xmpp.JID]*resource{}, shelves: map[shelf][]xmpp.JID{}, verified: newCache(opt.MaxCached),
		questions: questions{open: map[subject]*question{}, domains: map[string]int{}},
	}
	r.OnPresence(func(s *xmpp.Session, _, now *xmpp.Stanza) {
		if now == nil {
			c.ended(s)
		} else {
			c.learn(s.JID.Bare(), s.JID, now)
		}
	})
	r.OnUnbind(c.ended)
	r.Keep("caps", c.save, c.restore)
	r.OnContactPresence(func(account xmpp.JID, st *xmpp.Stanza) {
		switch st.Type {
		case "":
			c.learn(account, st.From, st)
		case "unavailable":
			c.left(account, st.From)
		}
	})
	return c
}

// OnCaps adds a hook that runs when a resource's capabilities became known, or changed, to an account that sees its presence; also for an
// account's own resources. It must not block. Call it before anybody connects.
func (c *Caps) OnCaps(f func(account, full xmpp.JID)) { c.onCaps = append(c.onCaps, f) }

// WantsNotify tells whether a resource that is available announces node+"+notify", as far as is known.
func (c *Caps) WantsNotify(full xmpp.JID, node string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r := c.resources[full]
	if r == nil {
		return false
	}
	_, ok := slices.BinarySearch(r.nodes, node)
	return ok
}

// news is what hooks are told.
type news struct{ account, full xmpp.JID }

// tell and ask are for when the lock is not held.
func (c *Caps) tell(told []news) {
	for _, n := range told {
		for _, f := range c.onCaps {
			f(n.account, n.full)
		}
	}
}

func (c *Caps) ask(asks []xmpp.Ask) {
	for _, a := range asks {
		c.r.Ask(a)
	}
}

// learn takes available presence. Presence without the element says nothing new (XEP-0115 §8.4).
func (c *Caps) learn(account, full xmpp.JID, st *xmpp.Stanza) {
	t, tagged := readTag(st)
	c.mu.RLock()
	r := c.resources[full]
	seen := r != nil && slices.Contains(r.accounts, account)
	c.mu.RUnlock()
	if r == nil && !tagged {
		return
	}
	place := shelf{account, full.Bare()}
	if !seen && !c.contact(place) {
		place.contact = xmpp.JID{}
	}
	c.mu.Lock()
	told := c.note(place, full, t, tagged)
	asks := c.next()
	c.mu.Unlock()
	c.tell(told)
	c.ask(asks)
}

func (c *Caps) contact(p shelf) bool {
	if p.contact == p.account {
		return true
	}
	var ok bool
	if err := c.r.Store.View(func(tx *store.Tx) error {
		item, found := store.Roster.Get(tx, store.Key(p.account.String(), p.contact.String()))
		ok = found && !item.Removed
		return nil
	}); err != nil {
		c.r.Log.Error("disco: reading the roster", "error", err)
	}
	return ok
}

// note is learn with the lock held.
func (c *Caps) note(place shelf, full xmpp.JID, t tag, tagged bool) (told []news) {
	r := c.resources[full]
	if r == nil {
		if !tagged {
			return nil // it left meanwhile
		}
		r = &resource{tag: t}
		c.resources[full] = r
	}
	added := !slices.Contains(r.accounts, place.account)
	if added {
		r.accounts = append(r.accounts, place.account)
		c.shelve(place, full)
	}
	if tagged && r.tag != t {
		c.questions.leave(full, r.tag)
		r.tag, r.known = t, false
	}
	if r.known {
		if added {
			told = append(told, news{place.account, full})
		}
		return told
	}
	if nodes, ok := c.verified.get(subjectOf(full, r.tag)); ok {
		return r.learned(full, nodes)
	}
	c.questions.join(full, r.tag)
	return nil
}

func (r *resource) learned(full xmpp.JID, nodes []string) (told []news) {
	r.nodes, r.known = nodes, true
	for _, a := range r.accounts {
		told = append(told, news{a, full})
	}
	return told
}

// shelve forgets the oldest where the shelf is full.
func (c *Caps) shelve(place shelf, full xmpp.JID) {
	limit := c.opt.MaxResources
	if place.contact.IsZero() {
		limit = c.opt.MaxStrangers
	}
	if list := c.shelves[place]; len(list) >= limit {
		c.drop(place.account, list[0])
	}
	c.shelves[place] = append(c.shelves[place], full)
}

// drop forgets a resource for an account.
func (c *Caps) drop(account, full xmpp.JID) {
	r := c.resources[full]
	if r == nil {
		return
	}
	is := func(j xmpp.JID) func(xmpp.JID) bool { return func(x xmpp.JID) bool { return x == j } }
	for _, place := range []shelf{{account, full.Bare()}, {account, xmpp.JID{}}} {
		list := slices.DeleteFunc(c.shelves[place], is(full))
		if len(list) == 0 {
			delete(c.shelves, place)
		} else {
			c.shelves[place] = list
		}
	}
	if r.accounts = slices.DeleteFunc(r.accounts, is(account)); len(r.accounts) == 0 {
		c.questions.leave(full, r.tag)
		delete(c.resources, full)
	}
}

// left: a contact's resource, or with the bare JID all of them, is not available any more.
func (c *Caps) left(account, who xmpp.JID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(account, who)
	if !who.IsBare() {
		return
	}
	for _, place := range []shelf{{account, who}, {account, xmpp.JID{}}} {
		for _, full := range slices.Clone(c.shelves[place]) {
			if full.Bare() == who {
				c.drop(account, full)
			}
		}
	}
}

// ended: a session of ours is not available any more, for nobody.
func (c *Caps) ended(s *xmpp.Session) {
	if now := c.r.SessionOf(s.JID); now != nil && now != s {
		return // its successor's are known already
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.resources[s.JID]; r != nil {
		for _, account := range slices.Clone(r.accounts) {
			c.drop(account, s.JID)
		}
	}
}
