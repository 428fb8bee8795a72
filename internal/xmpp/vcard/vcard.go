// Package vcard keeps the accounts' business cards (XEP-0054, vcard-temp). Anybody may read them; their owner writes them.
package vcard

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of XEP-0054.
const NS = "vcard-temp"

// Options and limits.
type Options struct {
	// MaxBytes of one card. Default 256 KiB. A longer one is refused: policy-violation.
	MaxBytes int
}

// Register hangs vcard-temp on the router.
func Register(r *xmpp.Router, opt Options) {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 256 << 10
	}
	key := xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "vCard"}
	r.Handle(key, get)
	key.Type = "set"
	r.HandleTx(key, opt.set)
	r.Announce(xmpp.ToServer, NS)
	r.Announce(xmpp.ToAccount, NS)
}

func get(rq *xmpp.Request) error {
	var card []byte
	var ok bool
	if err := rq.View(func(tx *store.Tx) error {
		card, ok = store.VCards.Get(tx, rq.Account().String())
		return nil
	}); err != nil {
		return err
	}
	switch {
	case ok:
		rq.Reply(card)
		return nil
	case rq.FromOwner():
		return xmpp.Errorf(stanza.ItemNotFound, "no card was stored yet")
	}
	return xmpp.Errorf(stanza.ServiceUnavailable, "") // §3.3: as if there were no account
}

func (o Options) set(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	if !rq.FromOwner() {
		return xmpp.Errorf(stanza.Forbidden, "a card is written by its owner")
	}
	card := rq.Node().Children[0]
	raw := card.Raw()
	switch {
	case len(raw) > o.MaxBytes:
		return xmpp.Errorf(stanza.PolicyViolation, "the card is longer than %d bytes", o.MaxBytes)
	default:
		store.VCards.Put(tx, rq.Account().String(), raw)
	}
	out.Reply(rq, nil)
	return nil
}
