package pep

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// inName is a request of the box in an account's own name.
func inName(account xmpp.JID) *request {
	return &request{Request: &xmpp.Request{Stanza: &xmpp.Stanza{From: account, To: account}}, account: account, owner: true}
}

// PublishFor publishes an item in an account's name, as one of its clients does without publish-options, within a transaction.
func (p *PEP) PublishFor(tx *store.Tx, out *xmpp.Out, account xmpp.JID, name, id string, payload *frame.Node) error {
	pub := publication{node: name, item: payload, id: id, payload: payload}
	return p.accept(tx, out, inName(account), pub, func(*node, string) {})
}

// RetractFor retracts an item in an account's name and tells who listens; that there is none is no mistake.
func (p *PEP) RetractFor(tx *store.Tx, out *xmpp.Out, account xmpp.JID, name, id string) {
	n, ok := p.load(tx, account, name)
	if key := itemKey(account, name, id); ok && store.PEPItems.Has(tx, key) {
		store.PEPItems.Delete(tx, key)
		p.retracted(tx, out, account, n)
		p.notifyRetracted(tx, out, account, n, []string{id})
	}
}
