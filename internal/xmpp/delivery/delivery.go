// Package delivery brings messages to an account's resources (RFC 6121 §8.5), or keeps them until one comes (offline messages, XEP-0160).
//
// Messages to one account stay in order: while any waits in the store, later ones go there too. A kept message is deleted only after the
// client answered a ping that was sent behind it, so neither a lost connection nor a power cut loses it; a client may see one twice.
package delivery

import (
	"log/slog"
	"sync"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Options and limits.
type Options struct {
	Log *slog.Logger
	// MaxOffline is how many messages are kept for one account. Default 5000. Beyond it senders get resource-constraint.
	MaxOffline int
	// MaxBytes bounds these messages in bytes, so that strangers can not fill the card. Default 32 MiB. Beyond it senders get
	// resource-constraint.
	MaxBytes int
}

// Delivery is the feature.
type Delivery struct {
	r   *xmpp.Router
	opt Options

	mu      sync.Mutex
	waiting map[xmpp.JID]*backlog
}

// Register hangs message delivery on the router.
func Register(r *xmpp.Router, opt Options) *Delivery {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.MaxOffline <= 0 {
		opt.MaxOffline = 5000
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 32 << 20
	}
	d := &Delivery{r: r, opt: opt, waiting: map[xmpp.JID]*backlog{}}
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "*"}, d.toAccount)
	r.Handle(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.Message, Type: "*"}, d.toResource)
	for _, c := range []xmpp.Class{xmpp.ToNobody, xmpp.ToServer} {
		r.Handle(xmpp.Key{Class: c, Kind: xmpp.Message, Type: "*"}, unavailable)
	}
	r.OnPresence(d.presence)
	r.OnUnbind(d.gone)
	r.OnUnsent(d.unsent)
	r.Announce(xmpp.ToServer, "msgoffline")
	return d
}

func unavailable(rq *xmpp.Request) error { return xmpp.Errorf(stanza.ServiceUnavailable, "") }

// toAccount is RFC 6121 §8.5.2.
func (d *Delivery) toAccount(rq *xmpp.Request) error {
	switch rq.Type {
	case "error":
		return nil
	case "groupchat":
		return unavailable(rq)
	case "headline":
		for _, s := range d.targets(rq.Account()) {
			s.Deliver(rq.Stanza)
		}
		return nil
	}
	if d.direct(rq.Account(), rq.Stanza) {
		return nil
	}
	if !keep(rq.Stanza) {
		for _, s := range d.targets(rq.Account()) { // it need not wait behind what is kept
			s.Deliver(rq.Stanza)
		}
		return nil
	}
	d.keep(rq)
	return nil
}

// toResource is RFC 6121 §8.5.3.
func (d *Delivery) toResource(rq *xmpp.Request) error {
	if s := d.r.SessionOf(rq.To); s != nil && s.Deliver(rq.Stanza) {
		return nil
	}
	switch rq.Type {
	case "chat":
		return d.toAccount(rq)
	case "headline", "error":
		return nil
	}
	return unavailable(rq)
}

// targets are the resources that a message to the bare JID goes to: all with a priority that is not negative.
func (d *Delivery) targets(account xmpp.JID) []*xmpp.Session {
	var out []*xmpp.Session
	for _, s := range d.r.Sessions(account) {
		if p, prio := s.Presence(); p != nil && prio >= 0 {
			out = append(out, s)
		}
	}
	return out
}

// direct delivers to the resources that are there, unless something waits in the store, which must come first.
func (d *Delivery) direct(account xmpp.JID, st *xmpp.Stanza) bool {
	d.mu.Lock()
	b := d.waiting[account]
	d.mu.Unlock()
	if b != nil {
		return false
	}
	taken := false
	for _, s := range d.targets(account) {
		taken = s.Deliver(st) || taken
	}
	return taken
}

// unsent: messages that a lost connection took and did not write are delivered anew, where no other resource has them and the store does not
// either.
func (d *Delivery) unsent(s *xmpp.Session, list []*xmpp.Stanza) {
	others := len(d.targets(s.JID.Bare())) > 0
	for _, st := range list {
		switch {
		case st.Kind != xmpp.Message || st.Type == "error" || st.Type == "headline" || st.Type == "groupchat" || !keep(st):
		case isStamped(st), st.To.IsBare() && others:
		default:
			d.r.Send(st)
		}
	}
}

// keep tells what is worth keeping (XEP-0160 §3, XEP-0334): not what only says that somebody is typing.
func keep(st *xmpp.Stanza) bool {
	if st.HasChild("urn:xmpp:hints", "no-store") || st.HasChild("urn:xmpp:hints", "no-permanent-store") {
		return false
	}
	if st.Type != "chat" {
		return true
	}
	for _, c := range st.Children {
		if c.NS != "http://jabber.org/protocol/chatstates" && c.Name != "thread" {
			return true
		}
	}
	return false
}

// keep stores a message, in the order of its sender.
func (d *Delivery) keep(rq *xmpp.Request) {
	account := rq.Account()
	d.hold(account)
	d.r.Commit(rq, func(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
		if n, size := store.Offline.Size(tx, account.String()); n >= d.opt.MaxOffline || size+len(rq.Raw) > d.opt.MaxBytes {
			return xmpp.Errorf(stanza.ResourceConstraint, "too many messages wait for this person")
		}
		d.append(tx, account, rq.Stanza)
		return nil
	}, func(error) { d.release(account) })
}

// Queue keeps a message in a transaction and delivers it as soon as a resource can take it.
func (d *Delivery) Queue(tx *store.Tx, out *xmpp.Out, account xmpp.JID, st *xmpp.Stanza) {
	d.append(tx, account, st)
	out.After(func() {
		d.hold(account)
		d.release(account)
	})
}
