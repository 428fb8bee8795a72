package frame

import "bytes"

// binding is a namespace prefix in scope.
type binding struct {
	prefix, uri string
	used        bool
}

// enter makes the start tag just read the innermost element: limits, declarations, its own and its attributes' namespaces, duplicates.
func (s *scanner) enter(b []byte) error {
	t := &s.tag
	switch {
	case len(s.stack) >= s.lim.Depth:
		return &Error{PolicyViolation, "elements nested too deep"}
	case s.elems+s.heavy > s.lim.Children:
		return &Error{PolicyViolation, "too many elements"}
	}
	s.elems++
	s.heavy += len(s.attrs) / attrsOfOne
	mark := len(s.ns)
	t.def = s.contentNS
	if n := len(s.stack); n > 0 {
		t.def = s.stack[n-1].def
	}
	if len(s.attrs) > 0 {
		if err := s.declare(b); err != nil {
			return err
		}
		if err := s.resolveAttrs(b); err != nil {
			return err
		}
	}
	t.ns = t.def
	if t.colon > 0 {
		var err error
		if t.ns, err = s.lookup(b[t.start+1 : t.colon]); err != nil {
			return err
		}
	}
	if t.empty {
		s.ns = s.ns[:mark]
		return nil
	}
	s.stack = append(s.stack, open{t.start + 1, t.nameEnd - t.start - 1, int32(mark), t.def})
	return nil
}

// declare takes the tag's namespace declarations into scope.
func (s *scanner) declare(b []byte) error {
	for i := range s.attrs {
		a := &s.attrs[i]
		if a.colon == 0 {
			if string(b[a.name:a.nameEnd]) != "xmlns" {
				continue
			}
			a.decl, s.tag.declares = true, true
			s.tag.def = a.uri(b)
			if s.tag.def == nsXML || s.tag.def == nsXMLNS {
				return notWellFormed("reserved namespace as the default one")
			}
			continue
		}
		if string(b[a.name:a.colon]) != "xmlns" {
			continue
		}
		a.decl = true
		if len(s.ns)-s.outer >= s.lim.Attrs {
			return &Error{PolicyViolation, "too many namespace prefixes"}
		}
		prefix, uri := intern(b[a.colon+1:a.nameEnd]), a.uri(b)
		// Namespaces in XML 1.0 §3, §5
		switch {
		case prefix == "xmlns" || uri == nsXMLNS || (prefix == "xml") != (uri == nsXML):
			return notWellFormed("reserved namespace or prefix declared anew")
		case uri == "":
			return notWellFormed("namespace prefix declared as nothing")
		}
		if prefix != "xml" {
			s.ns = append(s.ns, binding{prefix: prefix, uri: uri})
		}
	}
	return nil
}

func (a *rawAttr) uri(b []byte) string {
	if a.plain {
		return internNS(a.value(b))
	}
	return unescapeValue(a.value(b))
}

// resolveAttrs finds the namespaces of prefixed attributes, and attributes that are there twice (Namespaces in XML 1.0 §6.3).
func (s *scanner) resolveAttrs(b []byte) error {
	prefixed := false
	for i := range s.attrs {
		a := &s.attrs[i]
		if a.colon > 0 && !a.decl {
			var err error
			if a.ns, err = s.lookup(b[a.name:a.colon]); err != nil {
				return err
			}
			prefixed = true
		}
		name := b[a.name:a.nameEnd]
		for j := range i {
			o := &s.attrs[j]
			if o.nameEnd-o.name == int32(len(name)) && bytes.Equal(b[o.name:o.nameEnd], name) ||
				prefixed && a.ns != "" && a.ns == o.ns && bytes.Equal(a.local(b), o.local(b)) {
				return notWellFormed("attribute given twice")
			}
		}
	}
	return nil
}

// lookup returns what a prefix stands for and notes that it is used.
func (s *scanner) lookup(prefix []byte) (string, error) {
	for i := len(s.ns) - 1; i >= 0; i-- {
		if n := &s.ns[i]; n.prefix == string(prefix) {
			n.used = true
			return n.uri, nil
		}
	}
	if string(prefix) == "xml" {
		return nsXML, nil
	}
	return "", notWellFormed("namespace prefix that is not declared")
}

// appendDeclarations appends the declarations of those prefixes from around the element which it uses.
func (s *scanner) appendDeclarations(dst []byte) []byte {
	for i := range s.ns[:s.outer] {
		if n := &s.ns[i]; n.used {
			dst = append(append(dst, " xmlns:"...), n.prefix...)
			dst = append(AppendEscaped(append(dst, "='"...), n.uri), '\'')
		}
	}
	return dst
}
