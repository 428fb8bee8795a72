package xmpp

import (
	"pibox/internal/xmpp/frame"

	"mellium.im/xmpp/stanza"
)

// Namespaces of the core.
const (
	NSClient  = "jabber:client"
	NSServer  = "jabber:server"
	NSStanzas = "urn:ietf:params:xml:ns:xmpp-stanzas"
	NSStreams = "urn:ietf:params:xml:ns:xmpp-streams"
)

// Kind of a stanza.
type Kind uint8

// The three kinds, and what is none of them.
const (
	NoStanza Kind = iota
	Message
	Presence
	IQ
)

// Stanza is one message, presence or IQ: the sender's bytes, with what routing needs read from them. It is never
// changed; methods that seem to change it return another one.
type Stanza struct {
	*frame.Element
	Kind     Kind
	Type, ID string
	From, To JID // as written in Raw; zero where absent
	// Seq is the stanza's place in the store's log; zero where it is not stored.
	Seq uint64
}

// maxOwn is for stanzas that the box made or stored itself. What is in them was checked when it came in, against limits that only the configuration
// knows, and the box put more around it, or many into one: here is no limit but what frame can read at all.
var maxOwn = frame.Limits{Bytes: 1 << 30, Depth: 1 << 20, Attrs: 1 << 20, Children: 1 << 30}

// NewStanza reads the attributes of an element. An address that can not be prepared is a *StanzaError jid-malformed
// (RFC 6120 §8.3.3.8), beside a stanza that can still be answered.
func NewStanza(el *frame.Element) (*Stanza, error) {
	st := &Stanza{Element: el, Type: el.Attr("type"), ID: el.Attr("id")}
	switch el.Name {
	case "message":
		st.Kind = Message
	case "presence":
		st.Kind = Presence
	case "iq":
		st.Kind = IQ
	}
	var err error
	if from := el.Attr("from"); from != "" {
		if st.From, err = ParseJID(from); err != nil {
			return st, Errorf(stanza.JIDMalformed, "the from address can not be understood")
		}
	}
	if el.HasAttr("to") {
		if st.To, err = ParseJID(el.Attr("to")); err != nil {
			return st, Errorf(stanza.JIDMalformed, "the to address can not be understood")
		}
	}
	return st, nil
}

// ParseStanza reads a stanza that the box made or stored.
func ParseStanza(raw []byte) (*Stanza, error) {
	el, err := frame.Parse(raw, NSClient, maxOwn)
	if err != nil {
		return nil, err
	}
	return NewStanza(el)
}

// Make is ParseStanza for bytes of our own making, where a fault is ours.
func Make(raw []byte) *Stanza {
	st, err := ParseStanza(raw)
	if err != nil {
		panic("xmpp: a stanza of our own is wrong: " + err.Error())
	}
	return st
}

// prepared is the stanza with its addresses written as they were prepared: whoever compares bytes, as many clients do, sees one sender and not
// as many as there are ways to write his address.
func (st *Stanza) prepared() *Stanza {
	if st.From.spells(st.Attr("from")) && st.To.spells(st.Attr("to")) {
		return st
	}
	c := *st
	c.Element = st.With("from", jidAttr(st.From), "to", jidAttr(st.To))
	return &c
}

// Addressed is the stanza with these addresses; a zero JID removes the attribute.
func (st *Stanza) Addressed(from, to JID) *Stanza {
	if st.From == from && st.To == to {
		return st
	}
	c := *st
	c.From, c.To = from, to
	c.Element = st.With("from", jidAttr(from), "to", jidAttr(to))
	return &c
}

// Edited is the stanza with another element in its place, e.g. with a child added.
func (st *Stanza) Edited(el *frame.Element) *Stanza {
	c := *st
	c.Element = el
	return &c
}

// Stored is the stanza with its place in the store's log.
func (st *Stanza) Stored(seq uint64) *Stanza {
	c := *st
	c.Seq = seq
	return &c
}

func jidAttr(j JID) string {
	if j.IsZero() {
		return ""
	}
	return j.String()
}

// IsRequest tells an IQ that must be answered (RFC 6120 §8.2.3).
func (st *Stanza) IsRequest() bool { return st.Kind == IQ && (st.Type == "get" || st.Type == "set") }

// Payload is the first child element.
func (st *Stanza) Payload() (frame.Child, bool) {
	if len(st.Children) == 0 {
		return frame.Child{}, false
	}
	return st.Children[0], true
}

// Result is the IQ result to a request, with its payload (may be nil).
func (st *Stanza) Result(payload []byte) *Stanza {
	return Make(NewXML("iq").Attr("type", "result").Attr("id", st.ID).Attr("from", jidAttr(st.To)).Attr("to", jidAttr(st.From)).Raw(payload).Bytes())
}

// Failure is the error that answers a stanza (RFC 6120 §8.3): the same kind and id, the addresses turned round.
func (st *Stanza) Failure(e *StanzaError) *Stanza {
	return Make(NewXML(st.Name).Attr("type", "error").Attr("id", st.ID).Attr("from", jidAttr(st.To)).Attr("to", jidAttr(st.From)).Raw(e.Echo).Raw(e.XML()).Bytes())
}

// CanFail tells whether the stanza may be answered by an error (RFC 6120 §8.3.1: never an error with an error).
func (st *Stanza) CanFail() bool {
	switch st.Kind {
	case IQ:
		return st.IsRequest()
	case Message, Presence:
		return st.Type != "error"
	}
	return false
}
