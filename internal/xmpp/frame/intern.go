package frame

// intern returns a name as a string without allocating for those that make up most of XMPP's traffic.
func intern(b []byte) string {
	switch string(b) {
	case "message":
		return "message"
	case "presence":
		return "presence"
	case "iq":
		return "iq"
	case "from":
		return "from"
	case "to":
		return "to"
	case "id":
		return "id"
	case "type":
		return "type"
	case "lang":
		return "lang"
	case "body":
		return "body"
	case "subject":
		return "subject"
	case "thread":
		return "thread"
	case "show":
		return "show"
	case "status":
		return "status"
	case "priority":
		return "priority"
	case "query":
		return "query"
	case "item":
		return "item"
	case "group":
		return "group"
	case "jid":
		return "jid"
	case "name":
		return "name"
	case "subscription":
		return "subscription"
	case "error":
		return "error"
	case "text":
		return "text"
	case "ping":
		return "ping"
	case "stream":
		return "stream"
	case "features":
		return "features"
	}
	return internPayload(b)
}

// internPayload is intern for what stanzas carry.
func internPayload(b []byte) string {
	switch string(b) {
	case "active":
		return "active"
	case "composing":
		return "composing"
	case "request":
		return "request"
	case "origin-id":
		return "origin-id"
	case "stanza-id":
		return "stanza-id"
	case "delay":
		return "delay"
	case "x":
		return "x"
	case "c":
		return "c"
	case "r":
		return "r"
	case "h":
		return "h"
	case "node":
		return "node"
	case "hash":
		return "hash"
	case "pubsub":
		return "pubsub"
	case "publish":
		return "publish"
	case "items":
		return "items"
	case "event":
		return "event"
	case "encrypted":
		return "encrypted"
	case "header":
		return "header"
	case "key":
		return "key"
	case "store":
		return "store"
	case "encryption":
		return "encryption"
	}
	return string(b)
}

// internNS is intern for the names of namespaces.
func internNS(b []byte) string {
	switch string(b) {
	case NSClient:
		return NSClient
	case NSServer:
		return NSServer
	case NSStreams:
		return NSStreams
	case "jabber:iq:roster":
		return "jabber:iq:roster"
	case "jabber:x:data":
		return "jabber:x:data"
	case "urn:xmpp:ping":
		return "urn:xmpp:ping"
	case "urn:xmpp:receipts":
		return "urn:xmpp:receipts"
	case "urn:xmpp:chat-markers:0":
		return "urn:xmpp:chat-markers:0"
	case "urn:xmpp:sid:0":
		return "urn:xmpp:sid:0"
	case "urn:xmpp:hints":
		return "urn:xmpp:hints"
	case "urn:xmpp:eme:0":
		return "urn:xmpp:eme:0"
	case "urn:xmpp:delay":
		return "urn:xmpp:delay"
	case "urn:xmpp:carbons:2":
		return "urn:xmpp:carbons:2"
	case "urn:xmpp:forward:0":
		return "urn:xmpp:forward:0"
	case "eu.siacs.conversations.axolotl":
		return "eu.siacs.conversations.axolotl"
	case "http://jabber.org/protocol/chatstates":
		return "http://jabber.org/protocol/chatstates"
	case "http://jabber.org/protocol/caps":
		return "http://jabber.org/protocol/caps"
	case "http://jabber.org/protocol/disco#info":
		return "http://jabber.org/protocol/disco#info"
	case "http://jabber.org/protocol/disco#items":
		return "http://jabber.org/protocol/disco#items"
	case "http://jabber.org/protocol/pubsub":
		return "http://jabber.org/protocol/pubsub"
	case "http://jabber.org/protocol/pubsub#event":
		return "http://jabber.org/protocol/pubsub#event"
	}
	return string(b)
}
