package frame

import (
	"slices"
	"strings"
)

// Attr is an attribute that is not a namespace declaration.
type Attr struct {
	Name  string // local name
	NS    string // "" when it has no prefix
	Value string // unescaped. Values of an element share memory: strings.Clone what is kept for long

	start, end int32 // in Raw, with the white space before it
}

// is tells whether name, as in [Element.Attr], means a.
func (a *Attr) is(name string) bool {
	if a.NS == "" {
		return a.Name == name
	}
	return a.NS == nsXML && strings.HasPrefix(name, "xml:") && a.Name == name[4:]
}

func find(attrs []Attr, name string) *Attr {
	for i := range attrs {
		if attrs[i].is(name) {
			return &attrs[i]
		}
	}
	return nil
}

// Element is one complete top-level element of a stream. It is never changed: what alters it returns a new one.
type Element struct {
	// Raw stands for itself: prefixes that the stream header declared and the element uses are declared on its start tag. The content
	// namespace of the stream (jabber:client, …) is implied and not declared on the start tag, so that Raw can be sent on a stream with
	// another one.
	Raw      []byte
	Name, NS string
	Attrs    []Attr  // in the order of Raw
	Children []Child // direct child elements, in the order of Raw

	contentNS string // default namespace around Raw
	def       string // default namespace inside
	nameEnd   int32  // end of the name in the start tag
	tagEnd    int32  // end of the start tag
	closeTag  int32  // start of the end tag
	empty     bool   // written as <a/>
}

// Child is a direct child element: Raw[Start:End] of its Element.
type Child struct {
	Name, NS   string
	Start, End int
}

func (c *Child) is(ns, name string) bool { return c.Name == name && (ns == "" || c.NS == ns) }

// Attr returns the value of an attribute without prefix, or of "xml:lang"; "" when there is none.
func (e *Element) Attr(name string) string {
	if a := find(e.Attrs, name); a != nil {
		return a.Value
	}
	return ""
}

// HasAttr tells whether [Element.Attr] is there, be it empty.
func (e *Element) HasAttr(name string) bool { return find(e.Attrs, name) != nil }

// Child returns the first direct child of that name; ns "" matches any namespace.
func (e *Element) Child(ns, name string) (Child, bool) {
	for i := range e.Children {
		if c := &e.Children[i]; c.is(ns, name) {
			return *c, true
		}
	}
	return Child{}, false
}

// HasChild tells whether there is such a [Element.Child].
func (e *Element) HasChild(ns, name string) bool {
	_, ok := e.Child(ns, name)
	return ok
}

// With returns a copy whose start tag has the attributes kv, given as name, value, name, value; a value of "" removes the attribute. Names
// are as in [Element.Attr], different from each other and valid. Characters that XML can not hold become U+FFFD.
func (e *Element) With(kv ...string) *Element {
	named := func(a *Attr) bool {
		for i := 0; i+1 < len(kv); i += 2 {
			if a.is(kv[i]) {
				return true
			}
		}
		return false
	}
	size := len(e.Raw)
	for i := 0; i+1 < len(kv); i += 2 {
		size += len(` =""`) + len(kv[i]) + escapedLen(kv[i+1])
	}
	n := newElement(len(e.Attrs)+len(kv)/2, len(e.Children))
	n.copyMeta(e)
	raw := append(make([]byte, 0, size), e.Raw[:e.nameEnd]...)
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			raw = n.appendAttr(raw, kv[i], kv[i+1])
		}
	}
	from := e.nameEnd
	for i := range e.Attrs {
		a := e.Attrs[i]
		if named(&a) {
			raw = append(raw, e.Raw[from:a.start]...)
			from = a.end
			continue
		}
		shift := int32(len(raw)) - from
		a.start, a.end = a.start+shift, a.end+shift
		n.Attrs = append(n.Attrs, a)
	}
	shift := int32(len(raw)) - from
	n.Raw = append(raw, e.Raw[from:]...)
	n.tagEnd += shift
	if !n.empty {
		n.closeTag += shift
	}
	for _, c := range e.Children {
		n.Children = append(n.Children, Child{c.Name, c.NS, c.Start + int(shift), c.End + int(shift)})
	}
	return n
}

// copyMeta takes over everything but Raw, Attrs and Children.
func (e *Element) copyMeta(from *Element) {
	e.Name, e.NS, e.contentNS, e.def = from.Name, from.NS, from.contentNS, from.def
	e.nameEnd, e.tagEnd, e.closeTag, e.empty = from.nameEnd, from.tagEnd, from.closeTag, from.empty
}

func (e *Element) appendAttr(raw []byte, name, value string) []byte {
	a := Attr{Name: name, Value: value, start: int32(len(raw))}
	if local, ok := strings.CutPrefix(name, "xml:"); ok {
		a.Name, a.NS = local, nsXML
	}
	raw = append(append(append(raw, ' '), name...), '=', '\'')
	val := len(raw)
	raw = append(AppendEscaped(raw, value), '\'')
	a.end = int32(len(raw))
	if text := raw[val : len(raw)-1]; len(text) != len(value) {
		a.Value = unescapeValue(text)
	} else if string(text) != value {
		a.Value = string(text)
	}
	e.Attrs = append(e.Attrs, a)
	return raw
}

// WithoutChildren returns a copy without the direct children that match; e itself when none does.
func (e *Element) WithoutChildren(match func(Child) bool) *Element {
	var n *Element
	var raw []byte
	from := 0
	for i, c := range e.Children {
		if match(c) {
			if n == nil {
				n = newElement(len(e.Attrs), len(e.Children))
				n.copyMeta(e)
				n.Attrs = append(n.Attrs, e.Attrs...)
				n.Children = append(n.Children, e.Children[:i]...)
				raw = make([]byte, 0, len(e.Raw)-(c.End-c.Start))
			}
			raw = append(raw, e.Raw[from:c.Start]...)
			from = c.End
			continue
		}
		if n != nil {
			shift := len(raw) - from
			c.Start, c.End = c.Start+shift, c.End+shift
			n.Children = append(n.Children, c)
		}
	}
	if n == nil {
		return e
	}
	n.closeTag += int32(len(raw) - from)
	n.Raw = append(raw, e.Raw[from:]...)
	return n
}

// WithChild returns a copy with raw, an element, appended before the end tag. It may use the prefixes of e's start tag; without an
// xmlns of its own it is in e's default namespace. Where raw is not well-formed so that the result would not be, e itself is returned.
func (e *Element) WithChild(raw []byte) *Element {
	var b []byte
	if e.empty {
		name := e.Raw[1:e.nameEnd]
		b = append(make([]byte, 0, len(e.Raw)+len(raw)+len(name)+2), e.Raw[:e.tagEnd-2]...)
		b = append(append(append(b, '>'), raw...), "</"...)
		b = append(append(b, name...), '>')
	} else {
		b = append(make([]byte, 0, len(e.Raw)+len(raw)), e.Raw[:e.closeTag]...)
		b = append(append(b, raw...), e.Raw[e.closeTag:]...)
	}
	n, err := parse(b, e.contentNS, unlimited(), true)
	if err != nil || len(n.Children) <= len(e.Children) {
		return e
	}
	return n
}

// AsClient is e as it reads on a client's stream: what was in the content namespace of a stream between servers is in jabber:client. Raw
// is the same.
func (e *Element) AsClient() *Element {
	if e.contentNS == NSClient {
		return e
	}
	c := *e
	c.contentNS = NSClient
	implied := func(ns string) string {
		if ns == e.contentNS {
			return NSClient
		}
		return ns
	}
	c.NS, c.def = implied(e.NS), implied(e.def)
	c.Children = slices.Clone(e.Children)
	for i := range c.Children {
		c.Children[i].NS = implied(c.Children[i].NS)
	}
	return &c
}
