// Package pep is personal eventing (XEP-0163): publish-subscribe (XEP-0060) on the bare address of each account.
//
// A request that changes something runs in the transaction and is answered after the sync; events go out behind it, in the order of the
// publications. Who may see what is decided anew each time from the records: the roster, the node's affiliations and subscriptions.
// XEP-0222 and XEP-0223 need nothing beyond publish-options.
package pep

import (
	"log/slog"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Namespaces.
const (
	NS       = "http://jabber.org/protocol/pubsub"
	NSOwner  = NS + "#owner"
	NSEvent  = NS + "#event"
	NSErrors = NS + "#errors"
)

// Caps is what PEP needs to know of entity capabilities (XEP-0115, XEP-0060 §9.2).
type Caps interface {
	// WantsNotify tells whether a resource that is available is known to announce node+"notify". It must not block.
	WantsNotify(full xmpp.JID, node string) bool
	// OnCaps registers a function that is called when a resource's capabilities became known for the first time since an account
	// saw its available presence, or changed; also for the account's own resources. WantsNotify knows them already.
	OnCaps(f func(account, full xmpp.JID))
}

// Blocks is what PEP needs of the blocking feature (XEP-0191).
type Blocks interface {
	Blocked(tx *store.Tx, account, who xmpp.JID) bool
}

// Options and limits, with their defaults.
type Options struct {
	Log *slog.Logger
	// MaxNodes of an account. Default 256.
	MaxNodes int
	// MaxItems of a node; what "max" stands for. Default 4096.
	MaxItems int
	// MaxPayload of an item, in bytes. Default 262144.
	MaxPayload int
	// MaxBytes that all nodes and items of an account take, each counted with its names and not below 256. Default 32 MiB.
	MaxBytes int
	// MaxEntities that a node has subscriptions for, and affiliations. Default 500 each.
	MaxEntities int
	// MaxReply bounds one answer to a request for items, in bytes of items; at least one is returned. Default 262144.
	MaxReply int
	// MaxListeners is how many resources of other servers may have sent presence to one account and get its events, and MaxStrangers
	// how many of them may be of no subscriber. Defaults 1000 and 50.
	MaxListeners, MaxStrangers int
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&o.MaxNodes, 256},
		{&o.MaxItems, 4096},
		{&o.MaxPayload, 256 << 10},
		{&o.MaxBytes, 32 << 20},
		{&o.MaxEntities, 500},
		{&o.MaxReply, 256 << 10},
		{&o.MaxListeners, 1000},
		{&o.MaxStrangers, 50},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// NodeHook is what another feature has to say about a node of its own. Every function may be nil. Only the account itself may publish to such
// a node and retract from it, and its items are always kept.
type NodeHook struct {
	// Publish is called before an item is stored, inside the transaction; an error refuses it, and nothing is stored or created.
	Publish func(tx *store.Tx, out *xmpp.Out, account xmpp.JID, id string, payload *frame.Node) error
	// Retract is called when the item was retracted, or the node purged or deleted.
	Retract func(tx *store.Tx, out *xmpp.Out, account xmpp.JID)
	// CanRead lets somebody retrieve items whom the access model presence refuses.
	CanRead func(tx *store.Tx, account, who xmpp.JID) bool
	// Served tells whether the node exists for others than the owner; until then no events are sent. See PEP.SendLast.
	Served func(tx *store.Tx, account xmpp.JID) bool
}

// PEP is the feature.
type PEP struct {
	r       *xmpp.Router
	opt     Options
	caps    Caps
	blocks  Blocks
	fields  []field
	fieldAt map[string]int
	hooks   map[string]NodeHook // by node; fixed after start

	mu   sync.Mutex
	ears map[xmpp.JID]map[xmpp.JID]*ear // by account and full JID
}

// Register hangs PEP on the router.
func Register(r *xmpp.Router, caps Caps, blocks Blocks, opt Options) *PEP {
	opt.defaults()
	p := &PEP{
		r: r, opt: opt, caps: caps, blocks: blocks, fields: configFields(opt), fieldAt: map[string]int{},
		hooks: map[string]NodeHook{}, ears: map[xmpp.JID]map[xmpp.JID]*ear{},
	}
	for i, f := range p.fields {
		p.fieldAt[f.name] = i
	}
	for _, ns := range []string{NS, NSOwner} {
		r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: ns, Name: "pubsub"}, p.get)
		r.HandleTx(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "set", NS: ns, Name: "pubsub"}, p.set)
	}
	r.FilterIn(p.decision)
	r.FilterIn(p.bounced)
	caps.OnCaps(p.heard)
	r.OnPresence(func(s *xmpp.Session, _, now *xmpp.Stanza) {
		if now == nil {
			p.leave(s)
		}
	})
	r.OnUnbind(p.leave)
	r.Keep("pep", p.saveSession, p.restoreSession)
	r.OnContactPresence(p.contactPresence)
	r.Announce(xmpp.ToAccount, NS, nsRSMFeature)
	r.Announce(xmpp.ToAccount, features()...)
	r.Announce(xmpp.ToServer, NS+"#publish-options")
	return p
}

// Hook hands a node over to another feature. Call it before anybody connects.
func (p *PEP) Hook(node string, h NodeHook) { p.hooks[node] = h }

func features() []string {
	names := []string{
		"access-presence", "auto-create", "auto-subscribe", "config-node", "config-node-max", "create-and-configure", "create-nodes",
		"delete-items", "delete-nodes", "filtered-notifications", "instant-nodes", "item-ids", "last-published", "manage-subscriptions",
		"member-affiliation", "meta-data", "modify-affiliations", "multi-items", "outcast-affiliation", "persistent-items",
		"presence-notifications", "presence-subscribe", "publish", "publish-node-full", "publish-only-affiliation", "publish-options",
		"publisher-affiliation", "pubsub-on-a-jid", "purge-nodes", "retract-items", "retrieve-affiliations", "retrieve-default",
		"retrieve-items", "retrieve-subscriptions", "subscribe", "subscription-notifications",
	}
	for i, n := range names {
		names[i] = NS + "#" + n
	}
	return names
}
