// Package ping answers pings (XEP-0199) to the server and to accounts. Pings to a resource are its client's.
package ping

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// NS is the namespace of XEP-0199.
const NS = "urn:xmpp:ping"

// Register hangs ping on the router.
func Register(r *xmpp.Router) {
	key := xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "ping"}
	r.Handle(key, server)
	key.Class = xmpp.ToAccount
	r.Handle(key, account)
	r.Announce(xmpp.ToServer, NS)
	r.Announce(xmpp.ToAccount, NS)
}

func server(rq *xmpp.Request) error {
	rq.Reply(nil)
	return nil
}

// account answers strangers as if there were no account, so that nobody finds accounts by trying names (RFC 6120 §13.11).
func account(rq *xmpp.Request) error {
	var known bool
	if err := rq.View(func(tx *store.Tx) error {
		known = xmpp.MaySee(tx, rq.Account(), rq.From)
		return nil
	}); err != nil {
		return err
	}
	if !known {
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	rq.Reply(nil)
	return nil
}
