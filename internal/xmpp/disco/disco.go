// Package disco is service discovery: of the server and its accounts (XEP-0030, with extended information, XEP-0128, and contact addresses,
// XEP-0157), and entity capabilities (XEP-0115): the server's own, and those of the clients whose presence is known here (caps.go).
package disco

import (
	"crypto"
	"errors"

	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// Namespaces.
const (
	NSInfo  = "http://jabber.org/protocol/disco#info"
	NSItems = "http://jabber.org/protocol/disco#items"
	NSCaps  = "http://jabber.org/protocol/caps"
	nsData  = "jabber:x:data"

	nsOccupant = "http://jabber.org/protocol/muc#user"

	formType = "FORM_TYPE"
	notify   = "+notify"
)

// Contacts are addresses of those who run the server, as URIs (XEP-0157).
type Contacts struct{ Abuse, Admin, Feedback, Sales, Security, Status, Support []string }

// Options of the server's own information.
type Options struct {
	// Name of the server for people. Default "pibox".
	Name string
	// Software is the URI that stands for the program in its capabilities. Default "urn:pibox".
	Software string
	Contacts Contacts
	Caps     CapsOptions
}

// Nodes is what has the nodes of accounts: PEP. Its errors are for the asker.
type Nodes interface {
	// DiscoInfo gives the inside of a query element for a node.
	DiscoInfo(tx *store.Tx, account, who xmpp.JID, node string) ([]byte, error)
	// DiscoItems gives an account's nodes that somebody may see, or with a node that node's items.
	DiscoItems(tx *store.Tx, account, who xmpp.JID, node string) ([]byte, error)
}

// Disco is the feature.
type Disco struct {
	// Caps are the capabilities of the clients whose presence is known here.
	Caps *Caps

	r       *xmpp.Router
	opt     Options
	server  []Identity
	account []Identity
	nodes   Nodes
}

// Register hangs service discovery on the router.
func Register(r *xmpp.Router, opt Options) *Disco {
	if opt.Name == "" {
		opt.Name = "pibox"
	}
	if opt.Software == "" {
		opt.Software = "urn:pibox"
	}
	d := &Disco{
		Caps: trackCaps(r, opt.Caps), r: r, opt: opt,
		server:  []Identity{{Category: "server", Type: "im", Name: opt.Name}},
		account: []Identity{{Category: "account", Type: "registered"}},
	}
	on := func(c xmpp.Class, ns string, h xmpp.Handler) {
		r.Handle(xmpp.Key{Class: c, Kind: xmpp.IQ, Type: "get", NS: ns, Name: "query"}, h)
	}
	on(xmpp.ToServer, NSInfo, d.serverInfo)
	on(xmpp.ToServer, NSItems, d.serverItems)
	on(xmpp.ToAccount, NSInfo, d.accountInfo)
	on(xmpp.ToAccount, NSItems, d.accountItems)
	on(xmpp.ToNobody, NSItems, func(rq *xmpp.Request) error {
		return reply(rq, NSItems, nil) // §8, 2.1
	})
	r.Announce(xmpp.ToServer, NSInfo, NSItems, NSCaps)
	r.Announce(xmpp.ToAccount, NSInfo, NSItems)
	r.StreamFeature(func() []byte {
		return xmpp.NewXMLNS("c", NSCaps).Attr("hash", "sha-1").Attr("node", opt.Software).Attr("ver", d.info().Ver(crypto.SHA1)).Bytes()
	})
	return d
}

// Identify adds an identity to our domains (ToServer) or to accounts (ToAccount). Call it before anybody connects.
func (d *Disco) Identify(c xmpp.Class, category, typ, name string) {
	id := Identity{Category: category, Type: typ, Name: name}
	if c == xmpp.ToServer {
		d.server = append(d.server, id)
		return
	}
	d.account = append(d.account, id)
}

// SetNodes says who has the nodes of accounts. Call it before anybody connects.
func (d *Disco) SetNodes(n Nodes) { d.nodes = n }

// info is what the server tells of itself.
func (d *Disco) info() Info {
	i := Info{Identities: d.server, Features: d.r.Features(xmpp.ToServer)}
	c := d.opt.Contacts
	f := Form{Type: "http://jabber.org/network/serverinfo"}
	for _, field := range []Field{
		{"abuse-addresses", c.Abuse}, {"admin-addresses", c.Admin}, {"feedback-addresses", c.Feedback}, {"sales-addresses", c.Sales},
		{"security-addresses", c.Security}, {"status-addresses", c.Status}, {"support-addresses", c.Support},
	} {
		if len(field.Values) > 0 {
			f.Fields = append(f.Fields, field)
		}
	}
	if len(f.Fields) > 0 {
		i.Forms = []Form{f}
	}
	return i
}

func node(rq *xmpp.Request) string { return rq.Node().Children[0].Attr("node") }

// reply mirrors the node (§3.2).
func reply(rq *xmpp.Request, ns string, inside []byte) error {
	rq.Reply(xmpp.NewXMLNS("query", ns).Attr("node", node(rq)).Raw(inside).Bytes())
	return nil
}

func noNode() error { return xmpp.Errorf(stanza.ItemNotFound, "there is no such node") }

// none tells requests to a resource at the domain: there are none.
func none(rq *xmpp.Request) bool { return !rq.To.IsBare() }

func (d *Disco) serverInfo(rq *xmpp.Request) error {
	if none(rq) {
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	info := d.info()
	if n := node(rq); n != "" && n != d.opt.Software+"#"+info.Ver(crypto.SHA1) { // XEP-0115 §6.2
		return noNode()
	}
	return reply(rq, NSInfo, info.XML())
}

func (d *Disco) serverItems(rq *xmpp.Request) error {
	switch {
	case none(rq):
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	case node(rq) != "":
		return noNode()
	}
	return reply(rq, NSItems, nil)
}

// accountInfo tells strangers no more than an account that does not exist would (§8, 1), but for nodes that are open to them.
func (d *Disco) accountInfo(rq *xmpp.Request) error {
	n := node(rq)
	var known bool
	var inside []byte
	err := rq.View(func(tx *store.Tx) (err error) {
		known = xmpp.MaySee(tx, rq.Account(), rq.From)
		if n != "" {
			inside, err = d.nodeInfo(tx, rq, n)
		}
		return err
	})
	switch {
	case !known && (refused(err) || n == ""):
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	case err != nil:
		return err
	case n == "":
		inside = Info{Identities: d.account, Features: d.r.Features(xmpp.ToAccount)}.XML()
	}
	return reply(rq, NSInfo, inside)
}

// refused tells an error for the asker from a fault of ours.
func refused(err error) bool {
	var e *xmpp.StanzaError
	return errors.As(err, &e)
}

func (d *Disco) nodeInfo(tx *store.Tx, rq *xmpp.Request, name string) ([]byte, error) {
	if d.nodes == nil {
		return nil, noNode()
	}
	return d.nodes.DiscoInfo(tx, rq.Account(), rq.From, name)
}

// accountItems gives strangers what is open to them, and that is mostly nothing, as of an account that does not exist (§8, 2).
func (d *Disco) accountItems(rq *xmpp.Request) error {
	n := node(rq)
	var known bool
	var inside []byte
	err := rq.View(func(tx *store.Tx) (err error) {
		known = xmpp.MaySee(tx, rq.Account(), rq.From)
		if d.nodes != nil {
			inside, err = d.nodes.DiscoItems(tx, rq.Account(), rq.From, n)
		} else if n != "" {
			err = noNode()
		}
		return err
	})
	switch {
	case err != nil && (known || !refused(err)):
		return err
	case err != nil:
		inside = nil
	}
	if known && n == "" {
		for _, s := range d.r.Available(rq.Account()) {
			inside = append(inside, xmpp.NewXML("item").Attr("jid", s.JID.String()).Bytes()...)
		}
	}
	return reply(rq, NSItems, inside)
}
