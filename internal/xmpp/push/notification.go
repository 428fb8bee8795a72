package push

import (
	"strconv"
	"unicode/utf8"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

const formSummary = "urn:xmpp:push:summary"

// maxBody bounds the text that is told, in bytes: what push services take from us is a few KiB.
const maxBody = 1024

// text is the beginning of a message's body.
func text(st *xmpp.Stanza) string {
	body := st.Node().ChildText(xmpp.NSClient, "body")
	if len(body) <= maxBody {
		return body
	}
	n := maxBody
	for !utf8.RuneStart(body[n]) {
		n--
	}
	return body[:n]
}

// important tells a message that is worth waking a phone: something to read, or a call; not what clients tell each other, such as receipts.
func important(st *xmpp.Stanza) bool {
	switch st.Type {
	case "", "normal", "chat":
	default:
		return false
	}
	for _, c := range st.Children {
		switch (name{c.NS, c.Name}) {
		case name{xmpp.NSClient, "body"}:
			if text(st) != "" {
				return true
			}
		case name{"jabber:x:encrypted", "x"}, name{"urn:xmpp:openpgp:0", "openpgp"}, // XEP-0027, XEP-0373
			name{"urn:xmpp:jingle-message:0", "propose"}, name{"urn:xmpp:call-invites:0", "invite"}, // XEP-0353, XEP-0482
			name{"jabber:x:conference", "x"}: // XEP-0249
			return true
		case name{"eu.siacs.conversations.axolotl", "encrypted"}, name{"urn:xmpp:omemo:1", "encrypted"}, name{"urn:xmpp:omemo:2", "encrypted"}:
			if st.Node().Child(c.NS, c.Name).Child(c.NS, "payload") != nil { // XEP-0384: without one it carries keys
				return true
			}
		case name{"http://jabber.org/protocol/muc#user", "x"}: // XEP-0045 §7.8.2
			if st.Node().Child(c.NS, c.Name).Child(c.NS, "invite") != nil {
				return true
			}
		}
	}
	return false
}

type name struct{ ns, local string }

// Content is what an account's push services are told of the last message: who wrote it, and what.
func (o Options) Content(tx *store.Tx, account xmpp.JID) (sender, body bool) {
	sender, body = o.Sender, o.Body
	own, _ := store.PushContents.Get(tx, account.String())
	if own.Sender != nil {
		sender = *own.Sender
	}
	if own.Body != nil {
		body = *own.Body
	}
	return sender, body
}

// notification is the payload of a publication.
func (p *Push) notification(b publication) ([]byte, error) {
	var sender, body bool
	requests := 0
	if err := p.r.Store.View(func(tx *store.Tx) error {
		sender, body = p.opt.Content(tx, b.g.account)
		for _, rq := range store.Pending.All(tx, b.g.account.String()) {
			if !rq.Verifying {
				requests++
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	x := xmpp.NewXMLNS("pubsub", nsPubSub).Open("publish", "").Attr("node", b.g.node).Open("item", "").Open("notification", NS)
	x.Open("x", nsData).Attr("type", "submit")
	field(x, "FORM_TYPE", formSummary)
	field(x, "message-count", strconv.Itoa(b.unread))
	field(x, "pending-subscription-count", strconv.Itoa(requests))
	if sender && b.last != nil {
		field(x, "last-message-sender", b.last.From.String())
	}
	if body && b.last != nil && text(b.last) != "" {
		field(x, "last-message-body", text(b.last))
	}
	x.Close().Close().Close().Close()
	if len(b.rec.Options) > 0 {
		x.Open("publish-options", "").Raw(b.rec.Options).Close()
	}
	return x.Bytes(), nil
}

func field(x *xmpp.XML, name, value string) {
	x.Open("field", "").Attr("var", name).Leaf("value", "", value).Close()
}
