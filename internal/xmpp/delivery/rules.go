package delivery

import "pibox/internal/xmpp"

// Namespaces of what messages hold.
const (
	nsHints      = "urn:xmpp:hints"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsReceipts   = "urn:xmpp:receipts"
	nsMarkers    = "urn:xmpp:chat-markers:0"
	nsMUCUser    = "http://jabber.org/protocol/muc#user"
	nsConference = "jabber:x:conference"
)

// isPayload tells what clients need to show a conversation as it was, beside bodies: encrypted content, corrections, retractions, reactions, calls.
func isPayload(ns, name string) bool {
	switch ns {
	case "urn:xmpp:eme:0": // XEP-0380
		return name == "encryption"
	case "eu.siacs.conversations.axolotl", "urn:xmpp:omemo:2": // XEP-0384
		return name == "encrypted"
	case "urn:xmpp:openpgp:0": // XEP-0373
		return name == "openpgp"
	case "jabber:x:encrypted", nsConference: // XEP-0027, XEP-0249
		return name == "x"
	case "urn:xmpp:message-correct:0": // XEP-0308
		return name == "replace"
	case "urn:xmpp:message-retract:0", "urn:xmpp:message-retract:1": // XEP-0424
		return true
	case "urn:xmpp:fasten:0": // XEP-0422, for older retractions
		return name == "apply-to"
	case "urn:xmpp:reactions:0": // XEP-0444
		return name == "reactions"
	case "urn:xmpp:jingle-message:0", "urn:xmpp:jingle-message:1": // XEP-0353
		return true
	}
	return false
}

type kind uint8

const (
	normal kind = iota
	chat
	headline
	groupchat
	failure
)

// kindOf is RFC 6121 §5.2.2: what is unknown is normal.
func kindOf(st *xmpp.Stanza) kind {
	switch st.Type {
	case "chat":
		return chat
	case "headline":
		return headline
	case "groupchat":
		return groupchat
	case "error":
		return failure
	}
	return normal
}

// traits are what decides about a message.
type traits struct {
	kind kind
	// substance: it holds more than chat states and what only goes along with other things.
	substance bool
	// archived: it belongs into the archives of its sender and its recipient.
	archived bool
	// owed: it is to reach a device of a recipient of ours, be it later.
	owed bool
	// relayed: it is to reach another server, be it later.
	relayed bool
	// copied: it is eligible for carbons (XEP-0280 §6.1), but for what only one of the two sides can tell.
	copied bool
	// ofRoom: it belongs to a room, or is an error that answers such a message. With a full JID on the other side it is private, between occupants.
	ofRoom bool
}

// stored tells whether any of it goes to the card.
func (t *traits) stored() bool { return t.archived || t.owed || t.relayed }

// contents are what is found in a message.
type contents struct {
	body, payload, im, private, carbon, invite, room bool
	substance                                        bool
	store, noStore, noPermanentStore, noCopy         bool
}

func look(st *xmpp.Stanza) traits {
	c := contentsOf(st)
	t := traits{kind: kindOf(st), substance: c.substance}
	if t.kind == failure { // hints in it, and the rest, may be those of what failed (XEP-0334 §5)
		return t
	}
	t.ofRoom = c.room && !c.invite
	conversation := t.kind == chat || t.kind == normal
	if c.substance && !c.noStore { // of store and no-store the more careful one counts
		t.owed = conversation
		t.relayed = conversation || t.kind == groupchat
		// XEP-0313 §5.1.1; a room keeps its own archive
		t.archived = !c.noPermanentStore && (conversation && (c.body || c.payload || c.store) || t.kind == headline && c.store)
	}
	if t.kind != groupchat && !c.private && !c.carbon && !c.noCopy {
		t.copied = t.kind == chat || t.kind == normal && c.body || c.im || c.invite
	}
	return t
}

func contentsOf(st *xmpp.Stanza) (c contents) {
	for _, e := range st.Children {
		switch e.NS {
		case xmpp.NSClient:
			c.body = c.body || e.Name == "body"
			c.substance = c.substance || e.Name != "thread"
		case nsChatStates:
			c.im = true
		case nsHints:
			c.hint(e.Name)
		case nsCarbons:
			c.private = c.private || e.Name == "private"
			c.carbon = c.carbon || e.Name == "sent" || e.Name == "received"
			c.substance = c.substance || e.Name != "private"
		case nsReceipts, nsMarkers:
			c.im = true
			if e.Name != "request" && e.Name != "markable" {
				c.payload, c.substance = true, true
			}
		case nsMUCUser:
			c.room, c.substance = true, true
			if st.Node().Child(nsMUCUser, "x").Child(nsMUCUser, "invite") != nil { // XEP-0045 §7.8.2
				c.invite, c.payload = true, true
			}
		case nsSID, nsDelay, xmpp.NSRelayed:
		default:
			c.substance = true
			if isPayload(e.NS, e.Name) {
				c.payload = true
				c.invite = c.invite || e.NS == nsConference
			}
		}
	}
	return c
}

// hint is one of XEP-0334.
func (c *contents) hint(name string) {
	switch name {
	case "store":
		c.store = true
	case "no-store":
		c.noStore = true
	case "no-permanent-store":
		c.noPermanentStore = true
	case "no-copy":
		c.noCopy = true
	}
}
