package frame

import "bytes"

// Node is an element with all it contains, for what is decoded and not only relayed. Methods of a nil Node return zero values.
type Node struct {
	Name, NS string
	Attrs    []Attr
	Children []*Node
	Text     string // character data directly in this element, in one piece, unescaped

	src      []byte // of the whole document
	start    int
	end      int
	nameEnd  int
	parent   *Node
	outer    string    // default namespace around it
	content  string    // default namespace around the document
	declares bool      // has an xmlns attribute
	decls    []binding // prefixes declared on it
}

// Node returns e as a tree; nil for an Element that did not come out of this package.
func (e *Element) Node() *Node {
	s := scanner{lim: unlimited(), contentNS: e.contentNS}
	var root, cur *Node
	var more [][]byte // per open node: text in several pieces
	for {
		t, err := s.step(e.Raw)
		if err != nil || t == tokMore {
			return nil
		}
		switch t {
		case tokStart, tokEmpty:
			n := s.node(e, cur)
			if cur == nil {
				root = n
			}
			if t == tokStart {
				cur, more = n, append(more, nil)
			} else {
				n.end = s.pos
			}
		case tokEnd:
			last := len(more) - 1
			if more[last] != nil {
				cur.Text = string(more[last])
			}
			cur.end = s.pos
			cur, more = cur.parent, more[:last]
		case tokText, tokCDATA:
			addText(cur, &more[len(more)-1], s.data(e.Raw, t))
		}
		if cur == nil {
			return root
		}
	}
}

// data is the unescaped character data of the token last read.
func (s *scanner) data(b []byte, t token) string {
	b = b[s.from:s.pos]
	if t == tokText {
		return unescapeText(b)
	}
	b = b[len("<![CDATA[") : len(b)-len("]]>")]
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return string(bytes.ReplaceAll(b, []byte("\r"), []byte("\n")))
}

// addText appends to n.Text, from the second piece on by way of more.
func addText(n *Node, more *[]byte, text string) {
	switch {
	case n.Text == "":
		n.Text = text
		return
	case *more == nil:
		*more = []byte(n.Text)
	}
	*more = append(*more, text...)
}

// node makes a Node of the start tag last read.
func (s *scanner) node(e *Element, parent *Node) *Node {
	t := &s.tag
	n := &Node{
		Name: intern(t.local(e.Raw)), NS: t.ns,
		src: e.Raw, start: int(t.start), nameEnd: int(t.nameEnd), parent: parent,
		outer: e.contentNS, content: e.contentNS, declares: t.declares,
	}
	if parent != nil {
		parent.Children = append(parent.Children, n)
		n.outer = s.parentDefault(t.empty)
	}
	for i := range s.attrs {
		a := &s.attrs[i]
		switch {
		case !a.decl:
			n.Attrs = append(n.Attrs, Attr{
				Name: intern(a.local(e.Raw)), NS: a.ns, Value: a.text(e.Raw),
				start: a.start, end: a.end,
			})
		case a.colon > 0:
			n.decls = append(n.decls, binding{prefix: string(a.local(e.Raw)), uri: a.uri(e.Raw)})
		}
	}
	return n
}

// parentDefault is the default namespace inside the parent of the start tag last read.
func (s *scanner) parentDefault(empty bool) string {
	i := len(s.stack) - 1
	if !empty {
		i--
	}
	return s.stack[i].def
}

// Attr is as [Element.Attr].
func (n *Node) Attr(name string) string {
	if n == nil {
		return ""
	}
	if a := find(n.Attrs, name); a != nil {
		return a.Value
	}
	return ""
}

// HasAttr is as [Element.HasAttr].
func (n *Node) HasAttr(name string) bool { return n != nil && find(n.Attrs, name) != nil }

// Child returns the first direct child of that name, or nil; ns "" matches any namespace.
func (n *Node) Child(ns, name string) *Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name == name && (ns == "" || c.NS == ns) {
			return c
		}
	}
	return nil
}

// ChildText returns the Text of [Node.Child].
func (n *Node) ChildText(ns, name string) string {
	if c := n.Child(ns, name); c != nil {
		return c.Text
	}
	return ""
}

// Raw returns the element's bytes, to be read only, so that they stand for themselves as a child of a stanza: prefixes it uses are
// declared on it, and its default namespace is, unless that is the content namespace of a stream, which is implied.
func (n *Node) Raw() []byte {
	if n == nil {
		return nil
	}
	raw := n.src[n.start:n.end:n.end]
	s := scanner{lim: unlimited(), contentNS: n.outer}
	for p := n.parent; p != nil; p = p.parent {
		for _, d := range p.decls {
			if _, err := s.lookup([]byte(d.prefix)); err != nil {
				s.ns = append(s.ns, binding{prefix: d.prefix, uri: d.uri})
			}
		}
	}
	var decl []byte
	if !n.declares && n.outer != n.content && !isContent(n.outer) {
		decl = append(AppendEscaped([]byte(" xmlns='"), n.outer), '\'')
	}
	if s.outer = len(s.ns); s.outer > 0 {
		for i := range s.ns {
			s.ns[i].used = false
		}
		// The bytes were checked; the scan finds out which prefixes they use. A prefixed child of the content namespace is no stanza.
		s.stack = append(s.stack, open{def: n.outer})
		for s.pos < len(raw) {
			if t, err := s.step(raw); err != nil || t == tokMore {
				break
			}
		}
		decl = s.appendDeclarations(decl)
	}
	if len(decl) == 0 {
		return raw
	}
	at := n.nameEnd - n.start
	out := append(make([]byte, 0, len(raw)+len(decl)), raw[:at]...)
	return append(append(out, decl...), raw[at:]...)
}
