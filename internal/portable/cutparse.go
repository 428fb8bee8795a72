package portable

import (
	"bytes"
	"strings"

	"pibox/internal/xmpp/frame"
)

func (c *cutter) def() string {
	if n := len(c.open); n > 0 {
		return c.open[n-1].def
	}
	return ""
}

// parse checks an element. Its Raw stands alone.
func (c *cutter) parse(raw []byte) (*frame.Element, error) {
	def := c.def()
	if !c.prefixed(raw) {
		return frame.Parse(raw, def, elementLimits)
	}
	b := frame.AppendEscaped([]byte("<w xmlns='"), def)
	for i, n := range c.ns {
		inner := false // declared again further in
		for _, m := range c.ns[i+1:] {
			inner = inner || m.prefix == n.prefix
		}
		if !inner {
			b = append(append(b, "' xmlns:"...), n.prefix...)
			b = frame.AppendEscaped(append(b, "='"...), n.uri)
		}
	}
	b = append(append(append(b, "'>"...), raw...), "</w>"...)
	lim := elementLimits
	lim.Bytes, lim.Attrs = 2*maxElement, lim.Attrs+len(c.ns)+1
	w, err := frame.Parse(b, "", lim)
	if err != nil {
		return nil, err
	}
	n := w.Node()
	if n == nil || len(n.Children) != 1 {
		return nil, errEndTag
	}
	lim.Bytes += 4 * maxTag
	return frame.Parse(n.Children[0].Raw(), def, lim)
}

// prefixed tells whether an element may use a prefix from around it.
func (c *cutter) prefixed(raw []byte) bool {
	for _, n := range c.ns {
		if bytes.Contains(raw, []byte(n.prefix+":")) {
			return true
		}
	}
	return false
}

// declarations are the namespace declarations of a start tag that was checked.
func declarations(raw string) (all []binding) {
	for {
		eq := strings.IndexByte(raw, '=')
		if eq < 0 {
			return all
		}
		before, rest := strings.TrimRight(raw[:eq], " \t\r\n"), strings.TrimLeft(raw[eq+1:], " \t\r\n")
		name := before[strings.LastIndexAny(before, " \t\r\n")+1:]
		value, after, _ := strings.Cut(rest[1:], rest[:1])
		switch prefix, ok := strings.CutPrefix(name, "xmlns:"); {
		case ok:
			all = append(all, binding{prefix, unescaped(value)})
		case name == "xmlns":
			all = append(all, binding{"", unescaped(value)})
		}
		raw = after
	}
}

// unescaped is an attribute's value that was checked.
func unescaped(value string) string {
	if !strings.ContainsAny(value, "&\t\r\n") {
		return value
	}
	e, err := frame.Parse([]byte("<a b=\""+strings.ReplaceAll(value, `"`, "&quot;")+"\"/>"), "", elementLimits)
	if err != nil {
		return value
	}
	return e.Attr("b")
}

// withoutMarkup is an element without its comments and processing instructions.
func withoutMarkup(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for {
		at := bytes.IndexByte(raw, '<')
		if at < 0 || at+1 == len(raw) {
			return append(out, raw...)
		}
		out, raw = append(out, raw[:at]...), raw[at:]
		end, keep := 1, true
		switch {
		case bytes.HasPrefix(raw, []byte("<!--")):
			end, keep = 4+bytes.Index(raw[4:], []byte("-->"))+3, false
		case raw[1] == '?':
			end, keep = 2+bytes.Index(raw[2:], []byte("?>"))+2, false
		case bytes.HasPrefix(raw, []byte("<![CDATA[")):
			end = 9 + bytes.Index(raw[9:], []byte("]]>")) + 3
		}
		if keep {
			out = append(out, raw[:end]...)
		}
		raw = raw[end:]
	}
}
