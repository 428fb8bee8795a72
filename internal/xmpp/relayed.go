package xmpp

// NSRelayed is of an element that a box adds to a stored message when it sends it to another server once more, without knowing whether that has it:
//
//	<again xmlns='urn:pibox:relayed:0'/>
//
// A server that has the very message from that sender does not take it a second time. A message that is sent for the first time, which is nearly every
// one, goes out as its sender wrote it.
const NSRelayed = "urn:pibox:relayed:0"

const againName = "again"

// SentAgain tells that another server may have sent the message before.
func (st *Stanza) SentAgain() bool { return st.HasChild(NSRelayed, againName) }

// Again is the message as it is sent once more.
func (st *Stanza) Again() *Stanza {
	return st.Edited(st.WithChild(NewXMLNS(againName, NSRelayed).Bytes()))
}
