package push

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// each changes the registrations of an account and publishes what is due then.
func (p *Push) each(bare xmpp.JID, change func(g *registration)) {
	p.mu.Lock()
	a := p.accounts[bare]
	if a == nil || len(a.list) == 0 {
		p.mu.Unlock()
		return
	}
	var out []publication
	for _, g := range a.list {
		change(g)
		out = p.next(out, g)
	}
	p.mu.Unlock()
	p.publish(out)
}

// message is the hook of Messages.
func (p *Push) message(bare xmpp.JID, st *xmpp.Stanza, to []*xmpp.Session) {
	p.mu.Lock()
	a := p.accounts[bare]
	none := a == nil || len(a.list) == 0
	p.mu.Unlock()
	if none || st.From.Bare() == bare || !important(st) {
		return
	}
	p.each(bare, func(g *registration) {
		s := p.r.SessionOf(g.device())
		if s != nil && s.Confirms() && slices.Contains(to, s) {
			g.handed(st)
		}
		if s == nil || s.Detached() {
			g.missed(st)
		}
	})
}

// Requested tells, in the transaction that keeps it, that somebody asks to see an account's presence; whoever shows that to clients calls it.
func (p *Push) Requested(out *xmpp.Out, bare xmpp.JID) {
	out.After(func() {
		p.each(bare, func(g *registration) { g.due = g.due || p.away(g) })
	})
}

// away tells that the device has no connection.
func (p *Push) away(g *registration) bool {
	s := p.r.SessionOf(g.device())
	return s == nil || s.Detached()
}

func (p *Push) taken(s *xmpp.Session, st *xmpp.Stanza) {
	p.each(s.JID.Bare(), func(g *registration) {
		if g.rec.Device == s.JID.Resource {
			g.acknowledged(st.Seq)
		} else {
			g.elsewhere(st.Seq)
		}
	})
}

// detached: what a session without a connection did not acknowledge waits for it (XEP-0198 §5).
func (p *Push) detached(s *xmpp.Session, detached bool) {
	p.each(s.JID.Bare(), func(g *registration) {
		switch {
		case g.rec.Device != s.JID.Resource:
		case detached:
			g.lost()
		default:
			g.back()
		}
	})
}

// unbound: of a session that was detached before all has been told.
func (p *Push) unbound(s *xmpp.Session) {
	p.each(s.JID.Bare(), func(g *registration) {
		if g.rec.Device != s.JID.Resource {
			return
		}
		if !s.Detached() {
			g.lost()
		}
		g.with = nil
		if g.unread == 0 {
			g.last = nil
		}
	})
}

const (
	nsPubSub = "http://jabber.org/protocol/pubsub"
	nsEvent  = "http://jabber.org/protocol/pubsub#event"
)

// revoked takes the notices out by which a push service ends a registration (§8): that the account, or its server, may not publish any more,
// or that the node is gone (XEP-0060 §8.4).
func (p *Push) revoked(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Message || rq.Type == "error" || !(rq.HasChild(nsPubSub, "pubsub") || rq.HasChild(nsEvent, "event")) {
		return false, nil
	}
	bare := rq.Account()
	p.mu.Lock()
	var from []*registration
	if a := p.accounts[bare]; a != nil {
		for _, g := range a.list {
			if g.service == rq.From {
				from = append(from, g)
			}
		}
	}
	p.mu.Unlock()
	if len(from) == 0 {
		return false, nil
	}
	root := rq.Node()
	node, gone := unaffiliated(root.Child(nsPubSub, "pubsub"), bare)
	if !gone {
		if deleted := root.Child(nsEvent, "event").Child(nsEvent, "delete"); deleted != nil {
			node, gone = deleted.Attr("node"), true
		}
	}
	for _, g := range from {
		if gone && g.node == node {
			p.remove(g, "revoked by the push service")
			drop = true
		}
	}
	return drop, nil
}

// unaffiliated reads a change of an affiliation that ends publishing.
func unaffiliated(pubsub *frame.Node, bare xmpp.JID) (node string, gone bool) {
	if pubsub == nil {
		return "", false
	}
	for _, c := range pubsub.Children {
		if c.NS != nsPubSub || c.Name != "affiliation" {
			continue
		}
		who, err := xmpp.ParseJID(c.Attr("jid"))
		if err != nil || who != bare && who != bare.Host() {
			continue
		}
		switch c.Attr("affiliation") {
		case "owner", "publisher", "publish-only":
		default:
			return pubsub.Attr("node"), true
		}
	}
	return "", false
}

// remove ends a registration that its push service does not want any more.
func (p *Push) remove(g *registration, why string) {
	p.mu.Lock()
	rec := g.rec
	g.end()
	p.mu.Unlock()
	p.opt.Log.Info("push: a registration ends", "account", g.account, "service", g.service, "why", why)
	p.r.Submit(len(g.node), func(tx *store.Tx, out *xmpp.Out) error {
		if now, ok := store.Pushes.Get(tx, key(g.account, g.target)); ok && !now.Same(rec) {
			return nil // the device enabled it anew meanwhile
		}
		store.Pushes.Delete(tx, key(g.account, g.target))
		out.After(func() {
			p.drop(g.account, func(x *registration) bool { return x.target == g.target && x.rec.Same(rec) })
		})
		return nil
	}, nil)
}
