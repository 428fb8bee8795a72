// Package version tells which software this is (XEP-0092), and never on which operating system it runs (§6).
package version

import "pibox/internal/xmpp"

// NS is the namespace of XEP-0092.
const NS = "jabber:iq:version"

// Register hangs the software version on the router; version is that of the program, not empty.
func Register(r *xmpp.Router, name, version string) {
	answer := xmpp.NewXMLNS("query", NS).Leaf("name", "", name).Leaf("version", "", version).Bytes()
	r.Handle(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "query"}, func(rq *xmpp.Request) error {
		rq.Reply(answer)
		return nil
	})
	r.Announce(xmpp.ToServer, NS)
}
