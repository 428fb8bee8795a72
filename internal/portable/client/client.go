// Package client logs in to an account on any server, as an app does, to bring its contents here, to publish there where the account moved, and,
// for somebody who leaves, to build up the new account from outside.
//
// Nothing that the other server says is trusted beyond what it may say: it can tell what is in the account, and nothing about other accounts. All
// that it sends is bounded: one stanza, one answer, the number of everything that is counted, and the time each step may take. Mellium's session
// negotiates SASL and the resource; from then on the stream is framed strictly, and the sender's bytes are kept as they are.
package client

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// Namespaces.
const (
	nsTLS       = "urn:ietf:params:xml:ns:xmpp-tls"
	nsSM        = "urn:xmpp:sm:3"
	nsPing      = "urn:xmpp:ping"
	nsRoster    = "jabber:iq:roster"
	nsVCard     = "vcard-temp"
	nsPrivate   = "jabber:iq:private"
	nsBlocking  = "urn:xmpp:blocking"
	nsInfo      = "http://jabber.org/protocol/disco#info"
	nsItems     = "http://jabber.org/protocol/disco#items"
	nsPubSub    = "http://jabber.org/protocol/pubsub"
	nsOwner     = nsPubSub + "#owner"
	nsErrors    = nsPubSub + "#errors"
	nsOptions   = nsPubSub + "#publish-options"
	nsConfig    = nsPubSub + "#node_config"
	nsData      = "jabber:x:data"
	nsRSM       = "http://jabber.org/protocol/rsm"
	nsForward   = "urn:xmpp:forward:0"
	nsOffline   = "http://jabber.org/protocol/offline"
	nsDelay     = "urn:xmpp:delay"
	nsMoved     = "urn:xmpp:moved:1"
	nsPreApprov = "urn:xmpp:features:pre-approval"
	nsLimits    = "urn:xmpp:stream-limits:0"
)

// Config tells which account to log in to, and how its server is reached. Only Account and Password are needed.
type Config struct {
	Account  xmpp.JID // bare
	Password string
	// Address is host:port of the server where the DNS does not tell it; Direct says that TLS begins with the first byte there.
	Address string
	Direct  bool
	// Roots gives the trusted authorities; nil, or nil of it, are those of this machine.
	Roots func() *x509.CertPool
	// Resolver is the one of this machine when nil.
	Resolver *net.Resolver
	// Dial replaces net.Dialer's, for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Limits Limits
}

// Limits bound what the other server can cost. A field that is zero stands for its default.
type Limits struct {
	// Stanza is the largest stanza, in bytes. Default 8 MiB: an answer holds a whole roster, or all items of a node.
	Stanza int
	// Stray is how many stanzas that nobody asked for may come before one answer. Default 10000.
	Stray int
	// Roster, Blocks, Nodes, Items (of a node) and Requests (pending, and messages that wait) are how many there may be. Defaults 10000, 10000, 1000,
	// 10000 and 1000.
	Roster, Blocks, Nodes, Items, Requests int
	// Archived messages, and their bytes; what is newer stays behind. Defaults 5 million and 4 GiB.
	Archived     int
	ArchiveBytes int64
	// Page is how many archived messages are asked for at a time. Default 100.
	Page int
	// Connect is the time for one attempt to reach one address, Login from there to the resource, Answer until an answer came or, for a page of
	// the archive, went on coming. Defaults 20 s, 60 s, 60 s.
	Connect, Login, Answer time.Duration
	// Settle is how long a server may take to hand out what waits for an available resource. Default 5 s.
	Settle time.Duration
	// Reach is how long a contact's server may take to answer, through the account's server. Default 30 s.
	Reach time.Duration
}

func (l Limits) orDefault() Limits {
	for _, d := range []struct {
		v   *int
		def int
	}{
		{&l.Stanza, 8 << 20}, {&l.Stray, 10_000}, {&l.Roster, 10_000}, {&l.Blocks, 10_000}, {&l.Nodes, 1000}, {&l.Items, 10_000},
		{&l.Requests, 1000}, {&l.Archived, 5_000_000}, {&l.Page, 100},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&l.Connect, 20 * time.Second}, {&l.Login, time.Minute}, {&l.Answer, time.Minute}, {&l.Settle, 5 * time.Second}, {&l.Reach, 30 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if l.ArchiveBytes <= 0 {
		l.ArchiveBytes = 4 << 30
	}
	return l
}

// shape of a stanza: a roster or a node has many children.
func (l Limits) shape() frame.Limits {
	return frame.Limits{Bytes: l.Stanza, Depth: 64, Attrs: 64, Children: 60_000}
}
