package frame

// element reads on until the top-level element is complete; then it ends at s.pos.
func (s *scanner) element(b []byte) (bool, error) {
	for {
		t, err := s.step(b)
		if err != nil || t == tokMore {
			return false, err
		}
		switch t {
		case tokStart, tokEmpty:
			if s.elems == 1 {
				if s.tag.colon > 0 && isContent(s.tag.ns) { // RFC 6120 §4.8.5
					return false, &Error{BadNamespacePrefix, "stanza with a prefix"}
				}
				s.top = s.tag
				s.attrs, s.topAttrs = s.topAttrs, s.attrs
				if s.tag.empty {
					return true, nil
				}
				continue
			}
			depth := len(s.stack)
			if t == tokStart {
				depth--
			}
			if depth == 1 {
				g := &s.tag
				s.children = append(s.children, rawChild{g.start, g.colon, g.nameEnd, g.end, g.ns})
			}
		case tokEnd:
			switch len(s.stack) {
			case 0:
				return true, nil
			case 1:
				s.children[len(s.children)-1].end = int32(s.pos)
			}
		}
	}
}

// block holds an Element with the space most need, in one allocation.
type block struct {
	Element
	attrs    [6]Attr
	children [4]Child
}

// newElement returns an Element with empty Attrs and Children that can take so many.
func newElement(attrs, children int) *Element {
	b := new(block)
	e := &b.Element
	if e.Attrs = b.attrs[:0]; attrs > len(b.attrs) {
		e.Attrs = make([]Attr, 0, attrs)
	}
	if e.Children = b.children[:0]; children > len(b.children) {
		e.Children = make([]Child, 0, children)
	}
	return e
}

// build makes an Element of what element read: wire, exactly. owned says that wire may become its Raw.
func (s *scanner) build(wire []byte, owned bool) *Element {
	at := s.top.nameEnd
	cut, cutEnd := s.impliedNS()
	var room [128]byte
	decl := s.appendDeclarations(room[:0])
	contentNS := s.contentNS
	if cut < cutEnd {
		contentNS = s.top.def
	} else if !s.top.declares && contentNS != "" && !isContent(contentNS) {
		decl = append(AppendEscaped(append(decl, " xmlns='"...), contentNS), '\'')
	}
	raw := wire
	if !owned || len(decl) > 0 || cut < cutEnd {
		raw = make([]byte, 0, len(wire)+len(decl)-int(cutEnd-cut))
		raw = append(append(raw, wire[:at]...), decl...)
		raw = append(append(raw, wire[at:cut]...), wire[cutEnd:]...)
	}
	moved := func(at int32) int32 { // where a place behind the name went
		if at >= cutEnd {
			at -= cutEnd - cut
		}
		return at + int32(len(decl))
	}
	e := newElement(len(s.topAttrs), len(s.children))
	e.Raw, e.contentNS, e.def = raw, contentNS, s.top.def
	e.Name, e.NS = intern(s.top.local(wire)), s.top.ns
	e.nameEnd, e.tagEnd, e.empty = at, moved(s.top.end), s.top.empty
	s.buildAttrs(e, wire, moved)
	for i := range s.children {
		c := &s.children[i]
		e.Children = append(e.Children, Child{intern(c.local(wire)), c.ns, int(moved(c.start)), int(moved(c.end))})
	}
	if !e.empty {
		e.closeTag = moved(int32(s.from))
	}
	return e
}

// buildAttrs fills e.Attrs. All values share one string, a copy of their part of the start tag.
func (s *scanner) buildAttrs(e *Element, wire []byte, moved func(int32) int32) {
	if len(s.topAttrs) == 0 {
		return
	}
	first := s.topAttrs[0].start
	all := string(wire[first:s.topAttrs[len(s.topAttrs)-1].end])
	for i := range s.topAttrs {
		a := &s.topAttrs[i]
		if a.decl {
			continue
		}
		n := len(e.Attrs)
		e.Attrs = e.Attrs[:n+1] // newElement made room
		v := &e.Attrs[n]
		v.Name, v.NS, v.start, v.end = intern(a.local(wire)), a.ns, moved(a.start), moved(a.end)
		if a.plain {
			v.Value = all[a.val-first : a.end-1-first]
		} else {
			v.Value = unescapeValue(a.value(wire))
		}
	}
}

// impliedNS finds the element's own declaration of the stream's content namespace. On a stream in the prefix-free style, which
// declares the streams namespace as default, that is the declaration of any content namespace (RFC 6120 §4.8.3).
func (s *scanner) impliedNS() (start, end int32) {
	if s.top.declares && isContent(s.top.def) && (s.top.def == s.contentNS || s.contentNS == NSStreams) {
		for i := range s.topAttrs {
			if a := &s.topAttrs[i]; a.decl && a.colon == 0 {
				return a.start, a.end
			}
		}
	}
	return s.top.nameEnd, s.top.nameEnd
}

// Parse reads raw, which must be one complete element and nothing else, as the [Reader] would from a stream whose content namespace is
// contentNS. The element is independent of raw. Errors are of type *[Error].
func Parse(raw []byte, contentNS string, lim Limits) (*Element, error) {
	return parse(raw, contentNS, lim.orDefault(), false)
}

func parse(raw []byte, contentNS string, lim Limits, owned bool) (*Element, error) {
	var room struct { // on the stack, for what most elements need
		open     [4]open
		ns       [2]binding
		attrs    [6]rawAttr
		topAttrs [6]rawAttr
		children [6]rawChild
	}
	s := scanner{
		lim: lim, contentNS: contentNS, stack: room.open[:0], ns: room.ns[:0],
		attrs: room.attrs[:0], topAttrs: room.topAttrs[:0], children: room.children[:0],
	}
	done, err := s.element(raw)
	switch {
	case err != nil:
		return nil, err
	case !done:
		return nil, notWellFormed("element that is not complete")
	case s.pos != len(raw):
		return nil, notWellFormed("more than one element")
	}
	return s.build(raw, owned), nil
}
