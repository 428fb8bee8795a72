// Package frame cuts the XML stream of an XMPP connection into complete top-level elements, strictly and within limits (RFC 6120 §4, §11).
//
// It hands out the sender's own bytes, so that a stanza can be relayed without being decoded and written again. What it accepts is
// namespace-well-formed XML 1.0 in UTF-8 without comments, processing instructions and document types; whatever goes out of a stream
// in an [Element] can go into another stream.
package frame

import (
	"math"
	"strconv"
)

// Namespaces which this package itself has to know.
const (
	NSStreams   = "http://etherx.jabber.org/streams"
	NSClient    = "jabber:client"
	NSServer    = "jabber:server"
	NSComponent = "jabber:component:accept"
	nsXML       = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS     = "http://www.w3.org/2000/xmlns/"
)

// isContent tells whether ns is the content namespace of a stream: it is implied on stanzas and never written on them.
func isContent(ns string) bool { return ns == NSClient || ns == NSServer || ns == NSComponent }

// Limits bound what one element, or a stream header, may cost. A field that is zero or less stands for its default.
type Limits struct {
	// Bytes of one complete top-level element, from the start of its start tag to the end of its end tag, as it came; or of the
	// stream header with all that precedes it. Default 262144, at most 2^30.
	Bytes int
	// Depth is how deep elements may nest; the top-level element counts as 1. Default 64.
	Depth int
	// Attrs of one element, namespace declarations included; and namespace prefixes declared within one top-level element that
	// are in scope at the same time. Default 64. Work per attribute grows with it.
	Attrs int
	// Children is how many elements one top-level element may contain, at any depth. One with many attributes counts once more for every eight of them:
	// in a tree they take as much memory. Default 4096.
	Children int
}

func (l Limits) orDefault() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.Bytes, 256<<10)
	set(&l.Depth, 64)
	set(&l.Attrs, 64)
	set(&l.Children, 4096)
	l.Bytes = min(l.Bytes, 1<<30)
	return l
}

// attrsOfOne is how many attributes count as one element.
const attrsOfOne = 8

// unlimited is for bytes which are already in memory and were checked before.
func unlimited() Limits {
	return Limits{Bytes: 1 << 30, Depth: math.MaxInt32, Attrs: math.MaxInt32, Children: math.MaxInt32}
}

// Stream error conditions this package reports (RFC 6120 §4.9.3).
const (
	BadFormat           = "bad-format"
	BadNamespacePrefix  = "bad-namespace-prefix"
	InvalidNamespace    = "invalid-namespace"
	NotWellFormed       = "not-well-formed"
	PolicyViolation     = "policy-violation"
	RestrictedXML       = "restricted-xml"
	UnsupportedEncoding = "unsupported-encoding"
)

// Error is a fault of the peer that ends its stream.
type Error struct {
	Condition string // element name of the stream error, RFC 6120 §4.9.3
	Text      string // what was wrong, for the person who debugs the peer; never quotes the peer
}

func (e *Error) Error() string { return e.Condition + ": " + e.Text }

func notWellFormed(text string) error { return &Error{NotWellFormed, text} }

func tooLarge(limit int) error {
	return &Error{PolicyViolation, "larger than " + strconv.Itoa(limit) + " bytes"}
}
