// Package private keeps XML that only its owner reads (XEP-0049): one element per namespace and name.
package private

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of XEP-0049.
const NS = "jabber:iq:private"

// Options and limits, with their defaults. Beyond a limit the owner gets resource-constraint.
type Options struct {
	// MaxElements of one account. Default 100.
	MaxElements int
	// MaxBytes of one element. Default 128 KiB.
	MaxBytes int
}

// maxName bounds the namespace and name of an element, which are its key in the store, in bytes.
const maxName = 1024

// Register hangs private XML storage on the router.
func Register(r *xmpp.Router, opt Options) {
	if opt.MaxElements <= 0 {
		opt.MaxElements = 100
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 128 << 10
	}
	key := xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "query"}
	r.Handle(key, get)
	key.Type = "set"
	r.HandleTx(key, opt.set)
	r.Announce(xmpp.ToServer, NS)
}

// elements are what a request is about. Each has a namespace of its own (§2.3).
func elements(rq *xmpp.Request) ([]*frame.Node, error) {
	if !rq.FromOwner() {
		return nil, xmpp.Errorf(stanza.Forbidden, "private data is its owner's")
	}
	list := rq.Node().Children[0].Children
	if len(list) == 0 {
		return nil, xmpp.Errorf(stanza.NotAcceptable, "the query names no element")
	}
	seen := map[string]bool{}
	for _, el := range list {
		switch el.NS {
		case "", NS, xmpp.NSClient, xmpp.NSServer:
			return nil, xmpp.Errorf(stanza.NotAcceptable, "the element needs a namespace of its own")
		}
		if len(el.NS)+len(el.Name) > maxName {
			return nil, xmpp.Errorf(stanza.NotAcceptable, "the element's name is too long")
		}
		if seen[key(rq, el)] {
			return nil, xmpp.Errorf(stanza.NotAcceptable, "the same element twice")
		}
		seen[key(rq, el)] = true
	}
	return list, nil
}

func key(rq *xmpp.Request, el *frame.Node) string {
	return store.Key(rq.Account().String(), el.NS, el.Name)
}

func get(rq *xmpp.Request) error {
	list, err := elements(rq)
	if err != nil {
		return err
	}
	if len(list) > 1 { // §2.3: never more than one namespace
		return xmpp.Errorf(stanza.NotAcceptable, "one element at a time")
	}
	var rec store.PrivateXML
	var ok bool
	if err := rq.View(func(tx *store.Tx) error {
		rec, ok = store.Private.Get(tx, key(rq, list[0]))
		return nil
	}); err != nil {
		return err
	}
	if !ok {
		rec.XML = xmpp.NewXMLNS(list[0].Name, list[0].NS).Bytes()
	}
	rq.Reply(xmpp.NewXMLNS("query", NS).Raw(rec.XML).Bytes())
	return nil
}

func (o Options) set(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	list, err := elements(rq)
	if err != nil {
		return err
	}
	for _, el := range list {
		raw := el.Raw()
		if len(raw) > o.MaxBytes {
			return xmpp.Errorf(stanza.ResourceConstraint, "the element is longer than %d bytes", o.MaxBytes)
		}
		k := key(rq, el)
		if !store.Private.Has(tx, k) && store.Private.Count(tx, rq.Account().String()) >= o.MaxElements {
			return xmpp.Errorf(stanza.ResourceConstraint, "there are %d elements already", o.MaxElements)
		}
		store.Private.Put(tx, k, store.PrivateXML{XML: raw})
	}
	out.Reply(rq, nil)
	return nil
}
