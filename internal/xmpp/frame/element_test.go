package frame

import (
	"slices"
	"strings"
	"testing"
)

func mustParse(t testing.TB, raw string) *Element {
	t.Helper()
	e, err := Parse([]byte(raw), NSClient, Limits{})
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return e
}

// consistent fails unless e is what parsing its Raw gives.
func consistent(t testing.TB, e *Element) {
	t.Helper()
	p, err := Parse(e.Raw, e.contentNS, unlimited())
	if err != nil {
		t.Fatalf("%q: %v", e.Raw, err)
	}
	if string(p.Raw) != string(e.Raw) || p.Name != e.Name || p.NS != e.NS || p.def != e.def || p.nameEnd != e.nameEnd ||
		p.tagEnd != e.tagEnd || p.closeTag != e.closeTag || p.empty != e.empty ||
		!slices.Equal(p.Attrs, e.Attrs) || !slices.Equal(p.Children, e.Children) {
		t.Fatalf("%q:\n%+v\nwant %+v", e.Raw, e, p)
	}
}

func TestElement(t *testing.T) {
	e := mustParse(t, "<message from='a@b/c' id='&lt;1&#10;' xml:lang='de' to='' x:to='y' xmlns:x='urn:x' t='1\n2'><body>hi</body>"+
		"<x:body/><active xmlns='urn:a'><body/></active></message>")
	consistent(t, e)
	if e.Name != "message" || e.NS != NSClient {
		t.Error(e.Name, e.NS)
	}
	for name, want := range map[string]string{
		"from": "a@b/c", "id": "<1\n", "xml:lang": "de", "lang": "", "to": "", "x:to": "", "t": "1 2", "none": "",
	} {
		if got := e.Attr(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if !e.HasAttr("to") || e.HasAttr("none") || !e.HasAttr("xml:lang") || e.HasAttr("lang") {
		t.Error("HasAttr")
	}
	var got []string
	for _, c := range e.Children {
		got = append(got, c.NS+" "+c.Name+" "+string(e.Raw[c.Start:c.End]))
	}
	want := []string{"jabber:client body <body>hi</body>", "urn:x body <x:body/>", "urn:a active <active xmlns='urn:a'><body/></active>"}
	if !slices.Equal(got, want) {
		t.Errorf("children %q", got)
	}
	if c, ok := e.Child("urn:x", "body"); !ok || c != e.Children[1] {
		t.Error("Child by namespace")
	}
	if c, ok := e.Child("", "body"); !ok || c != e.Children[0] {
		t.Error("Child in any namespace")
	}
	if e.HasChild("urn:b", "active") || !e.HasChild("urn:a", "active") {
		t.Error("HasChild")
	}
}

func TestWith(t *testing.T) {
	for _, c := range []struct {
		in   string
		kv   []string
		want string
	}{
		{"<iq/>", []string{"from", "a"}, "<iq from='a'/>"},
		{"<iq/>", nil, "<iq/>"},
		{"<iq/>", []string{"from", ""}, "<iq/>"},
		{"<iq  from = \"x\" ><a/></iq>", []string{"from", ""}, "<iq ><a/></iq>"},
		{"<iq id='1' from='x' to='y'><a/><b/></iq>", []string{"from", "z", "to", ""}, "<iq from='z' id='1'><a/><b/></iq>"},
		{"<iq from='x'/>", []string{"from", "<&>'\"\n\x01\xff\u00e4"}, "<iq from='&lt;&amp;&gt;&apos;&quot;&#10;\uFFFD\uFFFD\u00e4'/>"},
		{"<iq p:from='x' xmlns:p='u'/>", []string{"from", "y"}, "<iq from='y' p:from='x' xmlns:p='u'/>"},
		{"<iq xml:lang='en' a='1'>t</iq>", []string{"xml:lang", "de"}, "<iq xml:lang='de' a='1'>t</iq>"},
		{"<iq xml:lang='en'>t</iq>", []string{"lang", "de"}, "<iq lang='de' xml:lang='en'>t</iq>"},
	} {
		e := mustParse(t, c.in)
		n := e.With(c.kv...)
		if string(n.Raw) != c.want || string(e.Raw) != c.in {
			t.Errorf("%q.With(%q) = %q, want %q", c.in, c.kv, n.Raw, c.want)
		}
		consistent(t, n)
		if cap(n.Raw) > len(c.want)+40 {
			t.Errorf("%q: capacity %d", c.in, cap(n.Raw))
		}
	}
}

// What one stanza says is what the answer repeats.
func TestWithRoundTrip(t *testing.T) {
	id := mustParse(t, "<iq id='a&#9;&#13;&#10;&amp;amp;\t'/>").Attr("id")
	e := mustParse(t, "<iq/>").With("id", id)
	if got := mustParse(t, string(e.Raw)).Attr("id"); got != id || e.Attr("id") != id {
		t.Errorf("%q, want %q", got, id)
	}
}

func TestWithoutChildren(t *testing.T) {
	e := mustParse(t, "<message> <a/>x<b>1</b><a/><c/>y</message>")
	for _, c := range []struct{ cut, want string }{
		{"a", "<message> x<b>1</b><c/>y</message>"},
		{"b", "<message> <a/>x<a/><c/>y</message>"},
		{"abc", "<message> xy</message>"},
		{"", string(e.Raw)},
	} {
		n := e.WithoutChildren(func(ch Child) bool { return strings.Contains(c.cut, ch.Name) })
		if string(n.Raw) != c.want {
			t.Errorf("without %q: %q", c.cut, n.Raw)
		}
		consistent(t, n)
		consistent(t, n.With("id", "1").WithChild([]byte("<z/>")))
	}
}

func TestWithChild(t *testing.T) {
	for _, c := range []struct{ in, child, want string }{
		{"<message/>", "<a/>", "<message><a/></message>"},
		{"<message id='1' />", "<a xmlns='u'>1</a>", "<message id='1' ><a xmlns='u'>1</a></message>"},
		{"<message ><b/>t</message >", "<a/>", "<message ><b/>t<a/></message >"},
		{"<p:x xmlns:p='u'/>", "<p:a/>", "<p:x xmlns:p='u'><p:a/></p:x>"},
		{"<message/>", "</message><message>", "<message/>"},
		{"<message/>", "<a>", "<message/>"},
		{"<message/>", "<p:a/>", "<message/>"},
		{"<message/>", "text", "<message/>"},
		{"<message/>", "", "<message/>"},
	} {
		n := mustParse(t, c.in).WithChild([]byte(c.child))
		if string(n.Raw) != c.want {
			t.Errorf("%q + %q = %q, want %q", c.in, c.child, n.Raw, c.want)
		}
		consistent(t, n)
	}
}

func TestNode(t *testing.T) {
	n := mustParse(t, "<message xmlns:p='urn:p' p:a='1' b='&amp;2'>one &lt;<body>\r\ntwo\r</body><![CDATA[<&\r\n]]> three<p:x><y>4</y></p:x></message>").Node()
	if n.Text != "one <<&\n three" || n.Name != "message" || n.NS != NSClient || n.Attr("b") != "&2" || !n.HasAttr("b") || n.HasAttr("a") {
		t.Errorf("%+v", n)
	}
	if len(n.Attrs) != 2 || n.Attrs[0].Name != "a" || n.Attrs[0].NS != "urn:p" || n.Attrs[0].Value != "1" {
		t.Errorf("%+v", n.Attrs)
	}
	if got := n.ChildText("", "body"); got != "\ntwo\n" {
		t.Errorf("%q", got)
	}
	if got := n.Child("urn:p", "x").ChildText(NSClient, "y"); got != "4" {
		t.Errorf("%q", got)
	}
	none := n.Child("urn:q", "x").Child("", "y")
	if none != nil || none.Attr("a") != "" || none.HasAttr("a") || none.ChildText("", "z") != "" || none.Raw() != nil {
		t.Error("methods of nil")
	}
}

func TestNodeRaw(t *testing.T) {
	const stanza = "<iq xmlns:p='urn:p' xmlns:q='urn:q'><p:a xmlns='urn:d'><b x='1'><c xmlns='' q:y=''/></b>" +
		"<d xmlns:p='urn:r'><p:e/></d></p:a><p:f p:g=''><h/></p:f><message xmlns='jabber:client'><body/></message></iq>"
	n := mustParse(t, stanza).Node()
	a := n.Child("", "a")
	for _, c := range []struct {
		node *Node
		want string
	}{
		{n, stanza},
		{a, "<p:a xmlns:p='urn:p' xmlns:q='urn:q' xmlns='urn:d'><b x='1'><c xmlns='' q:y=''/></b><d xmlns:p='urn:r'><p:e/></d></p:a>"},
		{a.Child("urn:d", "b"), "<b xmlns='urn:d' xmlns:q='urn:q' x='1'><c xmlns='' q:y=''/></b>"},
		{a.Child("urn:d", "b").Child("", "c"), "<c xmlns:q='urn:q' xmlns='' q:y=''/>"},
		{a.Child("urn:d", "d"), "<d xmlns='urn:d' xmlns:p='urn:r'><p:e/></d>"},
		{a.Child("urn:d", "d").Child("urn:r", "e"), "<p:e xmlns='urn:d' xmlns:p='urn:r'/>"},
		{n.Child("", "f"), "<p:f xmlns:p='urn:p' p:g=''><h/></p:f>"},
		{n.Child("", "message"), "<message xmlns='jabber:client'><body/></message>"},
		{n.Child("", "message").Child("", "body"), "<body/>"},
	} {
		if got := string(c.node.Raw()); got != c.want {
			t.Errorf("%s: %q, want %q", c.node.Name, got, c.want)
		}
	}
	inner := mustParse(t, "<a xmlns='urn:a'><b xmlns=''><c/></b></a>").Node().Child("", "b").Child("", "c")
	if got := string(inner.Raw()); got != "<c xmlns=''/>" {
		t.Errorf("%q", got)
	}
}

// Many pieces of text must not be joined in quadratic time; the result is what counts here.
func TestNodeText(t *testing.T) {
	const n = 3000
	e, err := Parse([]byte("<a>"+strings.Repeat("x<b/>", n)+"</a>"), NSClient, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Node().Text; got != strings.Repeat("x", n) {
		t.Errorf("%d", len(got))
	}
}

func TestParseFaults(t *testing.T) {
	for _, in := range []string{"", " <a/>", "<a/> ", "<a/><b/>", "<a>", "text", "</a>", "<a/", "<?xml version='1.0'?><a/>"} {
		if e, err := Parse([]byte(in), NSClient, Limits{}); err == nil {
			t.Errorf("%q: %q", in, e.Raw)
		}
	}
}

// What Parse returns does not change with its argument.
func TestParseCopies(t *testing.T) {
	in := []byte("<a b='c'/>")
	e, err := Parse(in, NSClient, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	clear(in)
	if string(e.Raw) != "<a b='c'/>" || e.Attr("b") != "c" {
		t.Errorf("%q", e.Raw)
	}
}

func TestNames(t *testing.T) {
	// Every character taken for a name is one in each edition of XML 1.0; encoding/xml has the fourth's tables, here is the fifth's §2.3.
	fifth := func(r rune) bool {
		for _, p := range [][2]rune{
			{0xC0, 0xD6},
			{0xD8, 0xF6},
			{0xF8, 0x2FF},
			{0x370, 0x37D},
			{0x37F, 0x1FFF},
			{0x200C, 0x200D},
			{0x2070, 0x218F},
			{0x2C00, 0x2FEF},
			{0x3001, 0xD7FF},
			{0xF900, 0xFDCF},
			{0xFDF0, 0xFFFD},
			{0x10000, 0xEFFFF},
		} {
			if p[0] <= r && r <= p[1] {
				return true
			}
		}
		return false
	}
	for r := rune(0x80); r < 0x20000; r++ {
		if !isLetter(r) {
			continue
		}
		if _, err := tree([]byte("<" + string(r) + "/>")); err != nil || !fifth(r) {
			t.Errorf("%U is not a name in all editions: %v", r, err)
		}
	}
}
