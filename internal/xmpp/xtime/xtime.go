// Package xtime tells the server's time (XEP-0202).
package xtime

import (
	"time"

	"pibox/internal/xmpp"
)

// NS is the namespace of XEP-0202.
const NS = "urn:xmpp:time"

// Register hangs entity time on the router. zone is the server's, for the offset that is told.
func Register(r *xmpp.Router, zone *time.Location) {
	r.Handle(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: NS, Name: "time"}, func(rq *xmpp.Request) error {
		now := time.Now()
		rq.Reply(xmpp.NewXMLNS("time", NS).
			Leaf("tzo", "", now.In(zone).Format("-07:00")). // XEP-0082 §3.2
			Leaf("utc", "", now.UTC().Format("2006-01-02T15:04:05Z")).Bytes())
		return nil
	})
	r.Announce(xmpp.ToServer, NS)
}
