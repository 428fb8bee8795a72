package xmpp

// NSRelayed is of an element that a box adds, as the last one, to a message that it has stored and relays to another server:
//
//	<relayed xmlns='urn:pibox:relayed:0' id='…'/>
//
// The id is of one message and one server, and tells nothing about the sender: rooms pass the element on to occupants who do not know him. A box that
// may have sent the message before, and does not know whether it arrived, adds again='true'. Who has the same message from
// that sender under that id does not take it again.
const NSRelayed = "urn:pibox:relayed:0"

// maxRelayed bounds the id.
const maxRelayed = 64

// Relayed is the id under which another server relays a message, "" where it gives none, and whether it may have sent it before.
func (st *Stanza) Relayed() (id string, again bool) {
	if !st.HasChild(NSRelayed, "relayed") {
		return "", false
	}
	for _, c := range st.Node().Children { // the last one is the server's, others may be made up by the sender
		if c.NS == NSRelayed && c.Name == "relayed" {
			id, again = c.Attr("id"), c.Attr("again") == "true"
		}
	}
	if id == "" || len(id) > maxRelayed {
		return "", false
	}
	return id, again
}

// RelayedAs is a message as it is relayed.
func (st *Stanza) RelayedAs(id string, again bool) *Stanza {
	x := NewXMLNS("relayed", NSRelayed).Attr("id", id)
	if again {
		x.Attr("again", "true")
	}
	return st.Edited(st.WithChild(x.Bytes()))
}
