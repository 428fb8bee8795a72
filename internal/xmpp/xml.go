package xmpp

import "pibox/internal/xmpp/frame"

// XML writes one element. Methods return the receiver, so that an element reads as it is nested:
//
//	NewXML("iq").Attr("type", "get").Open("ping", "urn:xmpp:ping").Close().Bytes()
type XML struct {
	buf   []byte
	stack []string
	open  bool // the last start tag still takes attributes
}

// NewXML begins an element without a namespace declaration.
func NewXML(name string) *XML { return (&XML{}).Open(name, "") }

// NewXMLNS begins an element that declares its namespace.
func NewXMLNS(name, ns string) *XML { return (&XML{}).Open(name, ns) }

// Open begins a child element; ns "" inherits the parent's.
func (x *XML) Open(name, ns string) *XML {
	x.seal()
	x.buf = append(append(x.buf, '<'), name...)
	x.stack, x.open = append(x.stack, name), true
	if ns != "" {
		x.Attr("xmlns", ns)
	}
	return x
}

// Attr adds an attribute; an empty value adds none.
func (x *XML) Attr(name, value string) *XML {
	if value == "" {
		return x
	}
	return x.AttrAlways(name, value)
}

// AttrAlways adds an attribute even when it is empty.
func (x *XML) AttrAlways(name, value string) *XML {
	x.buf = append(append(append(x.buf, ' '), name...), '=', '\'')
	x.buf = append(frame.AppendEscaped(x.buf, value), '\'')
	return x
}

// Text adds character data.
func (x *XML) Text(s string) *XML {
	if s != "" {
		x.seal()
		x.buf = frame.AppendEscaped(x.buf, s)
	}
	return x
}

// Raw adds bytes that are well-formed already.
func (x *XML) Raw(b []byte) *XML {
	if len(b) > 0 {
		x.seal()
		x.buf = append(x.buf, b...)
	}
	return x
}

// Close ends the innermost element.
func (x *XML) Close() *XML {
	name := x.stack[len(x.stack)-1]
	x.stack = x.stack[:len(x.stack)-1]
	if x.open {
		x.buf, x.open = append(x.buf, '/', '>'), false
		return x
	}
	x.buf = append(append(append(x.buf, '<', '/'), name...), '>')
	return x
}

// Leaf adds a child element that holds only text.
func (x *XML) Leaf(name, ns, text string) *XML { return x.Open(name, ns).Text(text).Close() }

// Bytes ends all elements and gives what was written.
func (x *XML) Bytes() []byte {
	for len(x.stack) > 0 {
		x.Close()
	}
	return x.buf
}

func (x *XML) seal() {
	if x.open {
		x.buf, x.open = append(x.buf, '>'), false
	}
}

// StartTag is the start tag of the outermost element alone, as a stream header is: nothing else may have been written.
func (x *XML) StartTag() []byte {
	x.seal()
	return x.buf
}
