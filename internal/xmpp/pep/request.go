package pep

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// request is a pubsub request to an account.
type request struct {
	*xmpp.Request
	account xmpp.JID
	owner   bool        // it comes from the account itself
	pubsub  *frame.Node // the payload
	action  *frame.Node // its first child
}

// Limits of names, in bytes.
const maxName = 1023

func newRequest(rq *xmpp.Request) (*request, error) {
	q := &request{Request: rq, account: rq.Account(), owner: rq.From.Bare() == rq.Account()}
	if root := rq.Node(); root != nil && len(root.Children) > 0 {
		q.pubsub = root.Children[0]
	}
	if q.pubsub == nil || len(q.pubsub.Children) == 0 {
		return nil, malformed("a pubsub request says what it wants")
	}
	q.action = q.pubsub.Children[0]
	if q.action.NS != q.pubsub.NS {
		return nil, malformed("a pubsub request says what it wants in its own namespace")
	}
	return q, nil
}

// node is the name that the request gives.
func (q *request) node() (string, error) {
	name := q.action.Attr("node")
	switch {
	case name == "":
		return "", noNode()
	case len(name) > maxName:
		return "", unacceptable("the node's name is too long")
	}
	return name, nil
}

// beside is a further child of the payload, which belongs to the action.
func (q *request) beside(ns, name string) *frame.Node {
	for _, c := range q.pubsub.Children[1:] {
		if c.NS == ns && c.Name == name {
			return c
		}
	}
	return nil
}

// reply queues the result. What a handler sends goes out behind it if it is queued later.
func (q *request) reply(out *xmpp.Out, payload []byte) { out.Reply(q.Request, payload) }

type (
	reader func(*store.Tx, *request) ([]byte, error)
	writer func(*store.Tx, *xmpp.Out, *request) error
)

func (p *PEP) get(rq *xmpp.Request) error {
	q, err := newRequest(rq)
	if err != nil {
		return err
	}
	read, err := p.reader(q)
	if err != nil {
		return err
	}
	var payload []byte
	if err := rq.View(func(tx *store.Tx) (err error) {
		payload, err = read(tx, q)
		return err
	}); err != nil {
		return err
	}
	rq.Reply(payload)
	return nil
}

func (p *PEP) reader(q *request) (reader, error) {
	if q.pubsub.NS == NSOwner {
		if !q.owner {
			return nil, forbidden()
		}
		switch q.action.Name {
		case "configure":
			return p.configuration, nil
		case "default":
			return p.defaultConfiguration, nil
		case "affiliations":
			return p.affiliationsOf, nil
		case "subscriptions":
			return p.subscriptionsOf, nil
		}
		return nil, malformed("no such request")
	}
	switch q.action.Name {
	case "items":
		return p.items, nil
	case "subscriptions":
		return p.ownSubscriptions, nil
	case "affiliations":
		return p.ownAffiliations, nil
	case "options":
		return nil, unsupported("subscription-options")
	case "default":
		return nil, unsupported("retrieve-default-sub")
	}
	return nil, malformed("no such request")
}

func (p *PEP) set(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	q, err := newRequest(rq)
	if err != nil {
		return err
	}
	write, err := p.writer(q)
	if err != nil {
		return err
	}
	return write(tx, out, q)
}

func (p *PEP) writer(q *request) (writer, error) {
	if q.pubsub.NS == NSOwner {
		if !q.owner {
			return nil, forbidden()
		}
		switch q.action.Name {
		case "configure":
			return p.configure, nil
		case "delete":
			return p.deleteNode, nil
		case "purge":
			return p.purge, nil
		case "affiliations":
			return p.setAffiliations, nil
		case "subscriptions":
			return p.setSubscriptions, nil
		}
		return nil, malformed("no such request")
	}
	switch q.action.Name {
	case "publish":
		return p.publish, nil
	case "retract":
		return p.retract, nil
	case "create":
		return p.create, nil
	case "subscribe":
		return p.subscribe, nil
	case "unsubscribe":
		return p.unsubscribe, nil
	case "options":
		return nil, unsupported("subscription-options")
	}
	return nil, malformed("no such request")
}
