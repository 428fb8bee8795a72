package frame

import (
	"bytes"
	"strings"
)

// Header is the start tag of a stream (RFC 6120 §4.7). Attributes that are missing are "".
type Header struct {
	From, To, ID, Version, Lang string

	NS         string            // of the stream element: always the streams namespace
	ContentNS  string            // default namespace, whatever it is
	Prefixes   map[string]string // namespace prefixes declared on it
	HasXMLDecl bool
}

// header reads the stream header; nil is not complete.
func (r *Reader) header(b []byte) (*Header, error) {
	s := &r.s
	s.pos = skipSpace(b, s.pos)
	switch rest := b[s.pos:]; {
	case len(rest) == 0:
		_, err := s.more(b)
		return nil, err
	case rest[0] != '<':
		_, err := s.fail(s.pos+1, notWellFormed("text before the stream header"))
		return nil, err
	case len(rest) == 1:
		_, err := s.more(b)
		return nil, err
	case rest[1] == '?':
		return r.declaration(b)
	}
	t, err := s.step(b)
	switch {
	case err != nil || t == tokMore:
		return nil, err
	case t == tokEmpty:
		return nil, &Error{BadFormat, "stream that ends in its own start tag"}
	case s.tag.ns != NSStreams: // RFC 6120 §4.9.3.10
		return nil, &Error{InvalidNamespace, "stream header in another namespace"}
	case string(s.tag.local(b)) != "stream":
		return nil, &Error{BadFormat, "another element than stream as header"}
	}
	r.state = inStream
	r.name = string(b[s.tag.start+1 : s.tag.nameEnd])
	s.contentNS, s.outer = s.tag.def, len(s.ns)
	return r.newHeader(b), nil
}

func (r *Reader) newHeader(b []byte) *Header {
	s := &r.s
	h := &Header{NS: s.tag.ns, ContentNS: s.tag.def, HasXMLDecl: r.decl, Prefixes: make(map[string]string, len(s.ns))}
	for _, n := range s.ns {
		h.Prefixes[n.prefix] = n.uri
	}
	for i := range s.attrs {
		a := &s.attrs[i]
		switch string(b[a.name:a.nameEnd]) {
		case "from":
			h.From = a.text(b)
		case "to":
			h.To = a.text(b)
		case "id":
			h.ID = a.text(b)
		case "version":
			h.Version = a.text(b)
		case "xml:lang":
			h.Lang = a.text(b)
		}
	}
	return h
}

// declaration reads the XML declaration at s.pos and goes on with the header. XML 1.0 §2.8; RFC 6120 §11.5, §11.6.
func (r *Reader) declaration(b []byte) (*Header, error) {
	const begin, end = "<?xml", "?>"
	s := &r.s
	for i := range len(begin) + 1 {
		at := s.pos + i
		if at == len(b) {
			_, err := s.more(b)
			return nil, err
		}
		if i < len(begin) && b[at] != begin[i] || i == len(begin) && !isSpace(b[at]) {
			_, err := s.fail(at+1, &Error{RestrictedXML, "processing instruction"})
			return nil, err
		}
	}
	from := max(s.pos+len(begin), s.find)
	i := bytes.Index(b[from:], []byte(end))
	if i < 0 {
		s.find = max(from, len(b)-1)
		_, err := s.more(b)
		return nil, err
	}
	stop := from + i
	err := checkDeclaration(b[s.pos+len(begin) : stop])
	// What precedes the declaration after a restart can be a keepalive of the stream before.
	if r.decl || s.pos > 0 && !r.restarted {
		err = notWellFormed("XML declaration that is not at the beginning")
	}
	if _, err = s.fail(stop+len(end), err); err != nil {
		return nil, err
	}
	r.decl = true
	s.pos, s.find = stop+len(end), 0
	return r.header(b)
}

// checkDeclaration checks the inside of an XML declaration: version, encoding, standalone, in this order, the first one required.
func checkDeclaration(b []byte) error {
	names := []string{"version", "encoding", "standalone"}
	for i := 0; ; {
		start := skipSpace(b, i)
		if start == len(b) {
			break
		}
		a := rawAttr{name: int32(start), plain: true}
		end, err := a.read(b)
		if err != nil {
			return err
		}
		name := string(b[a.name:a.nameEnd])
		at := 0
		for at < len(names) && names[at] != name {
			at++
		}
		if at == len(names) || start == i || len(names) == 3 && at > 0 {
			return notWellFormed("XML declaration with something else than version, encoding, standalone")
		}
		names = names[at+1:]
		switch v := string(a.value(b)); {
		case name == "version" && v != "1.0":
			return &Error{BadFormat, "XML of another version than 1.0"}
		case name == "encoding" && !strings.EqualFold(v, "utf-8"):
			return &Error{UnsupportedEncoding, "another encoding than UTF-8"}
		case name == "standalone" && v != "yes" && v != "no":
			return notWellFormed("XML declaration that is neither standalone nor not")
		}
		i = end
	}
	if len(names) == 3 {
		return notWellFormed("XML declaration without a version")
	}
	return nil
}
