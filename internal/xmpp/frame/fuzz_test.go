package frame

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// oracle is an element as encoding/xml reads it.
type oracle struct {
	name, text string
	attrs      []string
	children   []*oracle
}

func (o *oracle) String() string { return fmt.Sprintf("%s%q%q%v", o.name, o.attrs, o.text, o.children) }

// spaces does what encoding/xml leaves undone in attribute values, XML 1.0 §3.3.3; and too much, to both sides of a comparison.
func spaces(value string) string {
	return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(value)
}

func oracleName(name xml.Name) string { return spaces(name.Space) + " " + name.Local }

func oracleAttr(name xml.Name, value string) string { return oracleName(name) + "=" + spaces(value) }

// tree reads one element by encoding/xml.
func tree(raw []byte) (*oracle, error) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	root := &oracle{}
	open := []*oracle{root}
	for {
		tok, err := d.Token()
		if err == io.EOF && len(open) == 1 && len(root.children) == 1 {
			return root.children[0], nil
		}
		if err != nil {
			return nil, err
		}
		cur := open[len(open)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			o := &oracle{name: oracleName(tok.Name)}
			for _, a := range tok.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					o.attrs = append(o.attrs, oracleAttr(a.Name, a.Value))
				}
			}
			cur.children = append(cur.children, o)
			open = append(open, o)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			cur.text += string(tok)
		default:
			return nil, fmt.Errorf("%T", tok)
		}
	}
}

func fromNode(n *Node) *oracle {
	o := &oracle{name: oracleName(xml.Name{Space: n.NS, Local: n.Name}), text: n.Text}
	for _, a := range n.Attrs {
		o.attrs = append(o.attrs, oracleAttr(xml.Name{Space: a.NS, Local: a.Name}, a.Value))
	}
	for _, c := range n.Children {
		o.children = append(o.children, fromNode(c))
	}
	return o
}

// inContext puts raw where its implied namespace is the default one, for encoding/xml.
func inContext(raw []byte, contentNS string) []byte {
	w := AppendEscaped([]byte("<w xmlns='"), contentNS)
	return append(append(append(w, "'>"...), raw...), "</w>"...)
}

// check fails unless e is what encoding/xml reads out of wire, and each operation on e keeps it so.
func check(t *testing.T, wire []byte, contentNS string, e *Element) {
	t.Helper()
	want, err := tree(wire)
	if err != nil {
		t.Fatalf("%q is accepted, but: %v", wire, err)
	}
	want = want.children[len(want.children)-1]
	n := e.Node()
	if got := fromNode(n); got.String() != want.String() {
		t.Fatalf("%q:\n got %v\nwant %v", wire, got, want)
	}
	alone, err := tree(inContext(e.Raw, e.contentNS))
	if err != nil || alone.children[0].String() != want.String() {
		t.Fatalf("%q does not stand for itself: %v, %v", e.Raw, alone, err)
	}
	consistent(t, e)
	if e.contentNS != contentNS && contentNS != NSStreams {
		t.Fatalf("content namespace %q", e.contentNS)
	}
	with := e.With("from", "a'b", "xml:lang", "", "id", e.Attr("id"))
	consistent(t, with)
	if with.Attr("from") != "a'b" || with.HasAttr("xml:lang") || with.Attr("id") != e.Attr("id") {
		t.Fatalf("With: %q", with.Raw)
	}
	odd := 0
	consistent(t, e.WithoutChildren(func(Child) bool { odd++; return odd%2 == 1 }))
	more := e.WithChild([]byte("<added xmlns='urn:x'/>"))
	consistent(t, more)
	if len(more.Children) != len(e.Children)+1 {
		t.Fatalf("WithChild: %q", more.Raw)
	}
	nodes := []*Node{n}
	for i := 0; i < len(nodes) && i < 50; i++ {
		nodes = append(nodes, nodes[i].Children...)
		outer := nodes[i].outer
		if !isContent(outer) {
			outer = e.contentNS
		}
		got, err := tree(inContext(nodes[i].Raw(), outer))
		if err != nil || got.children[0].String() != fromNode(nodes[i]).String() {
			t.Fatalf("node %q: %v", nodes[i].Raw(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"<message to='a@b' id='1'><body>hi &amp; &#x1F600;</body></message>", "<p:a xmlns:p='u' p:b='1'><c xmlns=''><p:d/></c></p:a>",
		"<a xmlns='jabber:client'><![CDATA[<x>]]>\r\n</a >", "<iq xml:lang='de'\n/>", "<a b='\t&#10;\"'><é/></a>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, ns := range []string{NSClient, NSStreams, ""} {
			e, err := Parse(in, ns, Limits{})
			if err != nil {
				continue
			}
			check(t, inContext(in, ns), ns, e)
		}
	})
}

// events reads in, split at random places if rng is there, into a comparable form; runs of white space count as one.
func events(in []byte, lim Limits, rng *rand.Rand) (out []string) {
	src := readFunc(func(p []byte) (int, error) {
		n := len(p)
		if rng != nil {
			n = min(n, 1+rng.IntN(1+rng.IntN(40)))
		}
		n = copy(p[:n], in)
		in = in[n:]
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	})
	r := NewReader(src, lim)
	for {
		ev, err := r.Next()
		s := ""
		switch {
		case err != nil:
			return append(out, err.Error())
		case ev.Kind == KindHeader:
			s = fmt.Sprintf("header %#v", *ev.Header)
		case ev.Kind == KindElement:
			s = fmt.Sprintf("element %#v", *ev.Element)
		default:
			s = fmt.Sprint(ev.Kind)
		}
		if len(out) == 0 || s != out[len(out)-1] || ev.Kind != KindSpace {
			out = append(out, s)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		clientHeader + "<message xmlns='jabber:client'><body>a</body></message> \n<stream:error><x/></stream:error></stream:stream>",
		"\n<?xml version='1.0'?>\n" + clientHeader, clientHeader + "<a><![CDATA[]]]]></a><!-- -->", clientHeader + "<a b='>' c=\"'\"></b>",
	} {
		f.Add([]byte(s), uint64(1), uint16(0))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, limit uint16) {
		lim := Limits{Bytes: int(limit), Depth: 5, Attrs: 6, Children: 10}
		whole := events(in, lim, nil)
		split := events(in, lim, rand.New(rand.NewPCG(seed, 0)))
		if !slices.Equal(whole, split) {
			t.Fatalf("%q:\nat once %q\nsplit   %q", in, whole, split)
		}
		r := NewReader(bytes.NewReader(in), lim)
		var header *Header
		open := []byte{}
		for {
			before := len(in) - r.Buffered() - unread(r)
			ev, err := r.Next()
			if err != nil {
				return
			}
			wire := in[before : len(in)-r.Buffered()-unread(r)]
			switch ev.Kind {
			case KindHeader:
				header, open = ev.Header, wire
			case KindElement:
				name := open[bytes.LastIndex(open, []byte("<"))+1:]
				name = name[:bytes.IndexAny(name, " \t\r\n>")]
				doc := slices.Concat(open, wire, []byte("</"), name, []byte(">"))
				if i := bytes.Index(doc, []byte("?>")); header.HasXMLDecl {
					doc = doc[i+2:]
				}
				check(t, doc, header.ContentNS, ev.Element)
			}
		}
	})
}

// unread is how much of its bytes.Reader a Reader has not read.
func unread(r *Reader) int { return r.src.(*bytes.Reader).Len() }

func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		clientHeader, "<?xml version=\"1.0\" encoding='utf-8' standalone='no'?><stream xmlns='http://etherx.jabber.org/streams' to='a&lt;'>",
		"<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:a='b' xml:lang='en' from='x' id='1' version='1.0'>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), Limits{})
		ev, err := r.Next()
		if err != nil {
			return
		}
		d := xml.NewDecoder(bytes.NewReader(in))
		for {
			tok, err := d.Token()
			if err != nil {
				t.Fatalf("%q is accepted, but: %v", in, err)
			}
			start, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			if start.Name.Local != "stream" || start.Name.Space != NSStreams || int(d.InputOffset()) != len(in)-r.Buffered()-unread(r) {
				t.Fatalf("%q: %v ends at %d", in, start, d.InputOffset())
			}
			compareHeader(t, start, ev.Header)
			return
		}
	})
}

func compareHeader(t *testing.T, start xml.StartElement, h *Header) {
	t.Helper()
	got := map[xml.Name]string{{Local: "xmlns"}: h.ContentNS}
	for name, v := range map[string]string{"from": h.From, "to": h.To, "id": h.ID, "version": h.Version} {
		got[xml.Name{Local: name}] = v
	}
	got[xml.Name{Space: nsXML, Local: "lang"}] = h.Lang
	for prefix, uri := range h.Prefixes {
		got[xml.Name{Space: "xmlns", Local: prefix}] = uri
	}
	for _, a := range start.Attr {
		if v, ok := got[a.Name]; ok && oracleAttr(a.Name, v) != oracleAttr(a.Name, a.Value) {
			t.Fatalf("%v = %q, want %q", a.Name, v, a.Value)
		}
		delete(got, a.Name)
	}
	for name, v := range got {
		if v != "" {
			t.Fatalf("%v = %q out of nothing", name, v)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a<b>&\"'\x00\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		esc := AppendEscaped(nil, s)
		if len(esc) > escapedLen(s) {
			t.Fatalf("%q: %d > %d", s, len(esc), escapedLen(s))
		}
		e, err := Parse(fmt.Appendf(nil, "<a b='%s' c=\"%s\">%s</a>", esc, esc, esc), "", Limits{Bytes: 1 << 30})
		if err != nil {
			t.Fatalf("%q: %v", esc, err)
		}
		want := strings.Map(func(r rune) rune {
			if !isChar(r) {
				return '\uFFFD'
			}
			return r
		}, s) // invalid bytes are U+FFFD already
		if e.Attr("b") != want || e.Attr("c") != want || e.Node().Text != want {
			t.Fatalf("%q: %q, want %q", s, e.Attr("b"), want)
		}
	})
}
