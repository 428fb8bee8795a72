package pep

import (
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// bounced ends the explicit subscriptions of who answers an event by an error that says that there is nobody any more (XEP-0060 §12.4). An
// address can so end only its own. Other errors may pass.
func (p *PEP) bounced(rq *xmpp.Request) (drop bool, err error) {
	if rq.Kind != xmpp.Message || rq.Type != "error" || rq.Class != xmpp.ToAccount {
		return false, nil
	}
	i := slices.IndexFunc(rq.Node().Children, func(c *frame.Node) bool { return c.Name == "error" && c.NS == rq.NS })
	if i < 0 {
		return false, nil
	}
	e := rq.Node().Children[i]
	if e.Child(xmpp.NSStanzas, string(stanza.Gone)) == nil && e.Child(xmpp.NSStanzas, string(stanza.ItemNotFound)) == nil {
		return false, nil
	}
	account, who := rq.Account(), rq.From
	subscribes := false
	if err := rq.View(func(tx *store.Tx) error {
		for _, rec := range store.AllPEPNodes(tx, account.String()) {
			subscribes = subscribes || rec.Subscriptions[who.String()] != ""
		}
		return nil
	}); err != nil || !subscribes {
		return false, err
	}
	p.r.Submit(256, func(tx *store.Tx, _ *xmpp.Out) error {
		for name, rec := range store.AllPEPNodes(tx, account.String()) {
			if rec.Subscriptions[who.String()] != "" {
				delete(rec.Subscriptions, who.String())
				store.PEPNodes.Put(tx, store.Key(account.String(), name), rec)
			}
		}
		return nil
	}, nil)
	return false, nil
}
