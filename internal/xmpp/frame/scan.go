package frame

import "bytes"

// token is what step found.
type token uint8

const (
	tokMore  token = iota // the token is not complete yet
	tokStart              // start tag, described by scanner.tag and scanner.attrs
	tokEmpty              // the same, of an element without content
	tokEnd                // end tag
	tokText               // character data
	tokCDATA              // CDATA section with its brackets
)

// scanner reads one top-level element (or a stream header) token by token out of a growing slice that always begins where the element
// begins; all offsets count from there. A token is judged once it is complete, so that the verdict does not depend on how the bytes
// were split into reads; the search for its end goes on where it stopped, so that no split makes the work quadratic.
type scanner struct {
	lim       Limits
	contentNS string // default namespace around the element

	pos   int  // start of the next token
	from  int  // start of the token last returned
	find  int  // how far the end of the token at pos was searched for, when greater than pos
	quote byte // within that search: the quote that is open

	elems int       // elements within the top-level element so far
	heavy int       // and what those with many attributes count beside
	stack []open    // elements that are open
	ns    []binding // prefixes in scope, innermost last
	outer int       // ns[:outer] are declared around the element
	tag   tag       // of the last start tag
	attrs []rawAttr // of the last start tag

	top      tag // the element's own start tag
	topAttrs []rawAttr
	children []rawChild
}

// open is an element whose end tag has not come.
type open struct {
	name, nameLen int32
	ns            int32  // len(scanner.ns) before it
	def           string // default namespace inside
}

// tag is a start tag: "<", the name up to nameEnd with a colon (or 0), everything up to end.
type tag struct {
	start, colon, nameEnd, end int32
	empty                      bool
	declares                   bool // has an xmlns attribute
	ns, def                    string
}

// rawAttr is an attribute: white space from start, name, value without its quotes, end after the closing one.
type rawAttr struct {
	start, name, colon, nameEnd, val, end int32
	plain                                 bool // the value needs no unescaping
	decl                                  bool // a namespace declaration
	ns                                    string
}

// rawChild is a direct child element from its start tag's "<" to its end.
type rawChild struct {
	start, colon, nameEnd, end int32
	ns                         string
}

func (a *rawAttr) value(b []byte) []byte { return b[a.val : a.end-1] }

func (a *rawAttr) text(b []byte) string {
	if a.plain {
		return string(a.value(b))
	}
	return unescapeValue(a.value(b))
}

// local is the part of the name after the colon.
func local(b []byte, start, colon, end int32) []byte {
	if colon > 0 {
		start = colon + 1
	}
	return b[start:end]
}

func (t *tag) local(b []byte) []byte      { return local(b, t.start+1, t.colon, t.nameEnd) }
func (a *rawAttr) local(b []byte) []byte  { return local(b, a.name, a.colon, a.nameEnd) }
func (c *rawChild) local(b []byte) []byte { return local(b, c.start+1, c.colon, c.nameEnd) }

// reset prepares for the next element of the same stream and lets go of what an unusual one needed.
func (s *scanner) reset() {
	s.pos, s.from, s.find, s.quote, s.elems, s.heavy = 0, 0, 0, 0, 0, 0
	if cap(s.stack) > 16 {
		s.stack = nil
	}
	if cap(s.attrs) > 16 {
		s.attrs = nil
	}
	if cap(s.topAttrs) > 16 {
		s.topAttrs = nil
	}
	if cap(s.children) > 16 {
		s.children = nil
	}
	if cap(s.ns) > 16+s.outer {
		s.ns = append(make([]binding, 0, s.outer+8), s.ns[:s.outer]...)
	}
	s.stack, s.attrs, s.topAttrs, s.children, s.ns = s.stack[:0], s.attrs[:0], s.topAttrs[:0], s.children[:0], s.ns[:s.outer]
	for i := range s.ns {
		s.ns[i].used = false
	}
}

// more asks for more bytes, if b may grow.
func (s *scanner) more(b []byte) (token, error) {
	if len(b) > s.lim.Bytes {
		return tokMore, tooLarge(s.lim.Bytes)
	}
	return tokMore, nil
}

// fail is the verdict err that took the bytes up to end: beyond the limit nothing but the size is judged.
func (s *scanner) fail(end int, err error) (token, error) {
	if end > s.lim.Bytes {
		err = tooLarge(s.lim.Bytes)
	}
	return tokMore, err
}

// found ends the token at end.
func (s *scanner) found(t token, end int) (token, error) {
	if end > s.lim.Bytes {
		return tokMore, tooLarge(s.lim.Bytes)
	}
	s.from, s.pos, s.find, s.quote = s.pos, end, 0, 0
	return t, nil
}

// step reads the next token of b.
func (s *scanner) step(b []byte) (token, error) {
	rest := b[s.pos:]
	switch {
	case len(rest) == 0:
		return s.more(b)
	case rest[0] != '<':
		return s.text(b)
	case len(rest) == 1:
		return s.more(b)
	}
	switch rest[1] {
	case '/':
		return s.endTag(b)
	case '!':
		return s.cdata(b)
	case '?':
		return s.fail(s.pos+2, &Error{RestrictedXML, "processing instruction"})
	}
	return s.startTag(b)
}

func (s *scanner) text(b []byte) (token, error) {
	if len(s.stack) == 0 {
		return s.fail(s.pos+1, &Error{BadFormat, "text between elements of a stream"})
	}
	from := max(s.pos, s.find)
	i := bytes.IndexByte(b[from:], '<')
	if i < 0 {
		s.find = len(b)
		return s.more(b)
	}
	end := from + i
	if err := checkText(b[s.pos:end]); err != nil {
		return s.fail(end, err)
	}
	return s.found(tokText, end)
}

// cdata reads a CDATA section, the only markup with "<!" that a stream may hold (RFC 6120 §11.1).
func (s *scanner) cdata(b []byte) (token, error) {
	const begin, end = "<![CDATA[", "]]>"
	for i := 2; i < len(begin); i++ {
		at := s.pos + i
		switch {
		case at == len(b):
			return s.more(b)
		case b[at] == begin[i]:
		case i == 2:
			return s.fail(at+1, &Error{RestrictedXML, "comment or document type"})
		default:
			return s.fail(at+1, notWellFormed("neither markup nor CDATA section"))
		}
	}
	from := max(s.pos+len(begin), s.find)
	i := bytes.Index(b[from:], []byte(end))
	if i < 0 {
		s.find = max(from, len(b)-len(end)+1)
		return s.more(b)
	}
	stop := from + i
	if len(s.stack) == 0 {
		return s.fail(stop+len(end), &Error{BadFormat, "text between elements of a stream"})
	}
	if err := checkCDATA(b[s.pos+len(begin) : stop]); err != nil {
		return s.fail(stop+len(end), err)
	}
	return s.found(tokCDATA, stop+len(end))
}

func (s *scanner) endTag(b []byte) (token, error) {
	if len(s.stack) == 0 {
		return s.fail(s.pos+2, notWellFormed("end tag without start tag"))
	}
	top := s.stack[len(s.stack)-1]
	name := b[top.name : top.name+top.nameLen]
	end, err := s.closing(b, name)
	if end == 0 || err != nil {
		return tokMore, err
	}
	s.stack = s.stack[:len(s.stack)-1]
	s.ns = s.ns[:top.ns]
	return s.found(tokEnd, end)
}

// closing reads the end tag at pos, which has to be name's, and returns its end, 0 when it is not complete.
func (s *scanner) closing(b, name []byte) (int, error) {
	nameEnd := s.pos + 2 + len(name)
	if nameEnd < len(b) && b[nameEnd] == '>' && bytes.Equal(b[s.pos+2:nameEnd], name) {
		_, err := s.fail(nameEnd+1, nil)
		return nameEnd + 1, err
	}
	from := max(s.pos+2, s.find)
	i := bytes.IndexByte(b[from:], '>')
	if i < 0 {
		s.find = len(b)
		_, err := s.more(b)
		return 0, err
	}
	end := from + i + 1
	var err error
	if end-1 < nameEnd || !bytes.Equal(b[s.pos+2:nameEnd], name) || skipSpace(b[:end], nameEnd) != end-1 {
		err = notWellFormed("end tag that does not match its start tag")
	}
	_, err = s.fail(end, err)
	return end, err
}

func (s *scanner) startTag(b []byte) (token, error) {
	end := 0
	if s.find <= s.pos {
		end, _ = s.syntax(b) // a fault is looked at again when the tag is known to be complete
	}
	if end == 0 {
		stop := s.tagEnd(b)
		if stop == 0 {
			return s.more(b)
		}
		var err error
		if end, err = s.syntax(b[:stop]); err != nil {
			return s.fail(stop, err)
		}
	}
	if end > s.lim.Bytes {
		return tokMore, tooLarge(s.lim.Bytes)
	}
	if err := s.enter(b); err != nil {
		return tokMore, err
	}
	if s.tag.empty {
		return s.found(tokEmpty, end)
	}
	return s.found(tokStart, end)
}

// tagEnd looks for the end of the start tag at pos: a '>' outside of quotes, or a '<', which is a fault anywhere in a tag. 0 is not found.
func (s *scanner) tagEnd(b []byte) int {
	i := max(s.find, s.pos+1)
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '<':
			return i + 1
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
			}
		case c == '"' || c == '\'':
			s.quote = c
		case c == '>':
			return i + 1
		}
	}
	s.find = i
	return 0
}

// syntax reads the start tag at pos into tag and attrs and returns its end. Where b ends too early, that is a fault as well.
func (s *scanner) syntax(b []byte) (int, error) {
	i, colon, err := qname(b, s.pos+1)
	if err != nil {
		return 0, err
	}
	s.tag = tag{start: int32(s.pos), colon: int32(colon), nameEnd: int32(i)}
	s.attrs = s.attrs[:0]
	for {
		from := i
		i = skipSpace(b, i)
		if i == len(b) {
			return 0, notWellFormed("start tag that does not end")
		}
		switch {
		case b[i] == '/' && i+1 < len(b) && b[i+1] == '>':
			s.tag.empty = true
			i++
			fallthrough
		case b[i] == '>':
			s.tag.end = int32(i + 1)
			return i + 1, nil
		case i == from:
			return 0, notWellFormed("white space is missing before an attribute")
		case len(s.attrs) == s.lim.Attrs:
			return 0, &Error{PolicyViolation, "too many attributes"}
		}
		s.attrs = append(s.attrs, rawAttr{start: int32(from), name: int32(i), plain: true})
		if i, err = s.attrs[len(s.attrs)-1].read(b); err != nil {
			return 0, err
		}
	}
}

// read reads the attribute whose name begins at a.name and returns its end.
func (a *rawAttr) read(b []byte) (int, error) {
	i, colon, err := qname(b, int(a.name))
	if err != nil {
		return 0, err
	}
	a.colon, a.nameEnd = int32(colon), int32(i)
	i = skipSpace(b, i)
	if i == len(b) || b[i] != '=' {
		return 0, notWellFormed("attribute without a value")
	}
	i = skipSpace(b, i+1)
	if i == len(b) || b[i] != '"' && b[i] != '\'' {
		return 0, notWellFormed("attribute value without quotes")
	}
	quote := b[i]
	i++
	a.val = int32(i)
	for i < len(b) {
		c := b[i]
		if class[c]&inValue != 0 {
			i++
			continue
		}
		n := 1
		switch {
		case c == quote:
			a.end = int32(i + 1)
			return i + 1, nil
		case c == '"' || c == '\'':
		case isSpace(c):
			a.plain = false
		case c == '&':
			a.plain = false
			_, n, err = reference(b[i:])
		case c == '<':
			err = notWellFormed("< in an attribute value")
		default:
			_, n, err = char(b[i:])
		}
		if err != nil {
			return 0, err
		}
		i += n
	}
	return 0, notWellFormed("attribute value that does not end")
}
