package moved

import (
	"net/url"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// oldJID reads the claim of a subscription request (row 2): one <old-jid/> with a bare JID that is not the sender's.
func oldJID(st *xmpp.Stanza) (xmpp.JID, bool) {
	moved, ok := only(st.Node(), NS, "moved")
	if !ok {
		return xmpp.JID{}, false
	}
	j, ok := onlyJID(moved, "old-jid")
	return j, ok && j != st.From.Bare()
}

// only is the single child of that name; of two nobody could tell which counts.
func only(n *frame.Node, ns, name string) (child *frame.Node, ok bool) {
	if n == nil {
		return nil, false
	}
	for _, c := range n.Children {
		if c.NS != ns || c.Name != name {
			continue
		}
		if child != nil {
			return nil, false
		}
		child = c
	}
	return child, child != nil
}

// onlyJID is the bare JID in the single child of that name; unknown children are ignored (XEP-0283 §impl-alt-verify).
func onlyJID(moved *frame.Node, name string) (xmpp.JID, bool) {
	c, ok := only(moved, NS, name)
	if !ok || len(c.Children) > 0 {
		return xmpp.JID{}, false
	}
	return bareJID(trim(c.Text))
}

// bareJID prepares the address of an account.
func bareJID(s string) (xmpp.JID, bool) {
	j, err := xmpp.ParseJID(s)
	if err != nil || !j.IsBare() || j.Local == "" {
		return xmpp.JID{}, false
	}
	return j, true
}

// trim takes the white space of XML off: no other is.
func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// newJID reads a moved statement, the payload of the node's item.
func newJID(payload *frame.Node) (xmpp.JID, bool) {
	if payload == nil || payload.NS != NS || payload.Name != "moved" {
		return xmpp.JID{}, false
	}
	return onlyJID(payload, "new-jid")
}

// target reads where the answer to a query says that the owner moved to (row 7): the statement in a result, or the address in a <gone/> error.
func target(reply *xmpp.Stanza) (xmpp.JID, bool) {
	n := reply.Node()
	switch reply.Type {
	case "error":
		return goneTo(n)
	case "result":
		items := n.Child(nsPubSub, "pubsub").Child(nsPubSub, "items")
		if items.Attr("node") != NS {
			return xmpp.JID{}, false
		}
		for _, it := range items.Children {
			if it.NS == nsPubSub && it.Name == "item" && it.Attr("id") == "current" {
				moved, ok := only(it, NS, "moved")
				if !ok {
					return xmpp.JID{}, false
				}
				return newJID(moved)
			}
		}
	}
	return xmpp.JID{}, false
}

// goneTo reads the address in a <gone/> error (RFC 6120 §8.3.3.5).
func goneTo(n *frame.Node) (xmpp.JID, bool) {
	return parseURI(n.Child(xmpp.NSClient, "error").ChildText(xmpp.NSStanzas, "gone"))
}

// parseURI takes xmpp:local@domain (RFC 5122), percent-decoded; one with an authority, a resource, a query or a fragment names no
// new address.
func parseURI(s string) (xmpp.JID, bool) {
	rest, ok := cutFold(trim(s), "xmpp:")
	if !ok || strings.ContainsAny(rest, "/?#") {
		return xmpp.JID{}, false
	}
	// An encoded separator is part of a name, so the parts are decoded one by one.
	local, domain, ok := strings.Cut(rest, "@")
	if !ok {
		return xmpp.JID{}, false
	}
	local, err1 := url.PathUnescape(local)
	domain, err2 := url.PathUnescape(domain)
	if err1 != nil || err2 != nil || strings.ContainsAny(local, "@/") || strings.ContainsAny(domain, "@/") {
		return xmpp.JID{}, false
	}
	return bareJID(local + "@" + domain)
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// uri writes a bare JID as RFC 5122 says.
func uri(j xmpp.JID) string {
	return "xmpp:" + url.PathEscape(j.Local) + "@" + strings.ReplaceAll(url.PathEscape(j.Domain), "%3A", ":")
}
