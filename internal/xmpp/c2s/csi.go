package c2s

import (
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const (
	nsCSI = "urn:xmpp:csi:0" // XEP-0352

	nsCarbons    = "urn:xmpp:carbons:2"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsDelay      = "urn:xmpp:delay"
	nsEvent      = "http://jabber.org/protocol/pubsub#event"
	nsForward    = "urn:xmpp:forward:0"
	nsMarkers    = "urn:xmpp:chat-markers:0"
	nsMDS        = "urn:xmpp:mds:displayed:0"
	nsMUCUser    = "http://jabber.org/protocol/muc#user"
	nsReceipts   = "urn:xmpp:receipts"
)

// quietKeepalive is how many times longer than others an inactive client may be silent before it is asked whether it is still there. The kernels find
// lost connections without waking anybody; the question is for those that end at a proxy.
const quietKeepalive = 8

// indicated takes a client's state (XEP-0352 §4.2); false: the element is something else.
func (c *conn) indicated(el *frame.Element) bool {
	switch {
	case el.NS != nsCSI:
		return false
	case el.Name == "inactive":
		c.out.setInactive(c.account)
	case el.Name == "active":
		c.out.setActive()
		if c.session != nil {
			c.readSooner(time.Now().Add(c.srv.opt.Keepalive))
		}
	default:
		return false
	}
	return true
}

// keepalive is the silence after which the client is asked whether it is still there.
func (c *conn) keepalive() time.Duration {
	if c.out.isInactive() {
		return quietKeepalive * c.srv.opt.Keepalive
	}
	return c.srv.opt.Keepalive
}

// topic is what a stanza is about: of two about the same the later one is enough.
type topic struct {
	kind     topicKind
	from, to xmpp.JID
	node, id string
}

type topicKind uint8

const (
	nothing topicKind = iota
	availability
	chatState
	pepItem
)

// verdict is what a stanza is to a client that nobody looks at.
type verdict struct {
	urgent bool  // it goes out now, and all that waits with it
	topic  topic // it takes the place of what waits about the same
	ends   topic // the chat state that it makes pointless
	// The person may be told of a message in this conversation; or another device of his has read it, so that he need not be any more.
	news, read xmpp.JID
}

var urgent = verdict{urgent: true}

// judge decides about a stanza for an account's device. What is not known is urgent.
func judge(st *xmpp.Stanza, account xmpp.JID) verdict {
	switch st.Kind {
	case xmpp.Presence:
		return ofPresence(st)
	case xmpp.Message:
		return ofMessage(st, account)
	}
	return urgent // somebody waits for an answer to it, or it is the answer
}

func ofPresence(st *xmpp.Stanza) verdict {
	if st.Type != "" && st.Type != "unavailable" {
		return urgent // subscriptions and errors
	}
	if st.HasChild(nsMUCUser, "x") {
		for _, status := range st.Node().Child(nsMUCUser, "x").Children {
			if status.Name == "status" && status.Attr("code") == "110" { // XEP-0045 §7.2.2: it is about the client itself
				return urgent
			}
		}
	}
	return verdict{topic: topic{kind: availability, from: st.From}}
}

func ofMessage(st *xmpp.Stanza, account xmpp.JID) verdict {
	m, sent, ok := unwrapped(st, account)
	switch {
	case !ok, m.Type == "error":
		return urgent
	case st.Seq != 0 && m.HasChild(nsDelay, "delay"): // it waited for a device to come, and more may wait for the answer to it
		return urgent
	case m.HasChild(nsEvent, "event"):
		return ofEvent(m, account)
	case m.Type == "headline": // RFC 6121 §5.2.2: transient
		return verdict{}
	}
	c := contentsOf(m)
	v := verdict{}
	state := topic{kind: chatState, from: m.From}
	if sent {
		state.to = m.To.Bare()
	}
	switch {
	case c.other || !c.note && c.state == "":
		v.urgent, v.ends = true, state
		if !sent {
			v.news = m.From.Bare()
		}
	case c.note:
		if sent && c.displayed {
			v.read = m.To.Bare()
		}
	default:
		v.topic = state
	}
	return v
}

// unwrapped is the message in a carbon of the account's (XEP-0280), or the message itself.
func unwrapped(st *xmpp.Stanza, account xmpp.JID) (m *xmpp.Stanza, sent, ok bool) {
	name := "sent"
	if sent = st.HasChild(nsCarbons, name); !sent {
		if name = "received"; !st.HasChild(nsCarbons, name) {
			return st, false, true
		}
	}
	if st.From != account || len(st.Children) != 1 {
		return nil, false, false
	}
	inner := st.Node().Child(nsCarbons, name).Child(nsForward, "forwarded").Child(xmpp.NSClient, "message")
	if inner == nil {
		return nil, false, false
	}
	m, err := xmpp.ParseStanza(inner.Raw())
	return m, sent, err == nil
}

// contents are what a message holds.
type contents struct {
	state     string // chat state (XEP-0085)
	note      bool   // it arrived, or was read (XEP-0184, XEP-0333)
	displayed bool
	other     bool // anything that is not known to be less
}

func contentsOf(m *xmpp.Stanza) (c contents) {
	for _, e := range m.Children {
		switch e.NS {
		case nsChatStates:
			c.state = e.Name
		case nsReceipts:
			c.note = c.note || e.Name == "received"
		case nsMarkers:
			c.note = c.note || e.Name != "markable"
			c.displayed = c.displayed || e.Name == "displayed"
		case "urn:xmpp:hints", "urn:xmpp:sid:0", "urn:xmpp:occupant-id:0", nsDelay, nsCarbons:
		case xmpp.NSClient:
			c.other = c.other || e.Name != "thread"
		default:
			c.other = true
		}
	}
	return c
}

// ofEvent is about events of PEP and its like (XEP-0060 §7.1.2.1). A service that is no account may mean more by them.
func ofEvent(m *xmpp.Stanza, account xmpp.JID) verdict {
	if m.Type != "headline" && (m.From.Local == "" || m.HasChild(xmpp.NSClient, "body")) {
		return urgent
	}
	event := m.Node().Child(nsEvent, "event")
	items := event.Child(nsEvent, "items")
	if items == nil || len(event.Children) != 1 || len(items.Children) != 1 {
		return verdict{}
	}
	item := items.Child(nsEvent, "item")
	if item.Attr("id") == "" { // a retraction, or nothing to tell it by
		return verdict{}
	}
	v := verdict{topic: topic{kind: pepItem, from: m.From, node: items.Attr("node"), id: item.Attr("id")}}
	if v.topic.node == nsMDS && m.From == account {
		if chat, err := xmpp.ParseJID(v.topic.id); err == nil { // XEP-0490 §4.2
			v.read = chat.Bare()
		}
	}
	return v
}
