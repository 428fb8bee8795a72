package moved

import (
	"net/url"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// oldJID reads the claim of a subscription request (row 2): one <old-jid/> with a bare JID that is not the sender's.
func oldJID(st *xmpp.Stanza) (xmpp.JID, bool) {
	c, ok := st.Child(NS, "moved")
	if !ok {
		return xmpp.JID{}, false
	}
	el, err := frame.Parse(st.Raw[c.Start:c.End], xmpp.NSClient, frame.Limits{})
	if err != nil {
		return xmpp.JID{}, false
	}
	j, ok := onlyJID(el.Node(), "old-jid")
	return j, ok && j != st.From.Bare()
}

// onlyJID is the bare JID in the single child of that name; unknown children are ignored (XEP-0283 §impl-alt-verify).
func onlyJID(moved *frame.Node, name string) (j xmpp.JID, ok bool) {
	for _, c := range moved.Children {
		if c.NS != NS || c.Name != name {
			continue
		}
		if !j.IsZero() {
			return xmpp.JID{}, false
		}
		var err error
		if j, err = xmpp.ParseJID(strings.TrimSpace(c.Text)); err != nil || !j.IsBare() || j.Local == "" {
			return xmpp.JID{}, false
		}
	}
	return j, !j.IsZero()
}

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
	if reply.Type == "error" {
		return parseURI(n.Child("", "error").ChildText(xmpp.NSStanzas, "gone"))
	}
	items := n.Child(nsPubSub, "pubsub").Child(nsPubSub, "items")
	if reply.Type != "result" || items.Attr("node") != NS {
		return xmpp.JID{}, false
	}
	for _, it := range items.Children {
		if it.NS == nsPubSub && it.Name == "item" && it.Attr("id") == "current" {
			return newJID(it.Child(NS, "moved"))
		}
	}
	return xmpp.JID{}, false
}

// parseURI takes xmpp:local@domain (RFC 5122), percent-decoded; one with an authority, a resource, a query or a fragment names no
// new address.
func parseURI(s string) (xmpp.JID, bool) {
	rest, ok := cutFold(strings.TrimSpace(s), "xmpp:")
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
	j, err := xmpp.ParseJID(local + "@" + domain)
	return j, err == nil && j.IsBare() && j.Local != ""
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
