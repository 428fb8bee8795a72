package frame

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const clientHeader = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='example.org' version='1.0'>`

// read returns what a stream consists of: its elements' Raw, "header", "end", "space" and the last error.
func read(r *Reader) (events []string, err error) {
	for {
		ev, err := r.Next()
		if err != nil {
			return events, err
		}
		switch ev.Kind {
		case KindHeader:
			events = append(events, "header")
		case KindElement:
			events = append(events, string(ev.Element.Raw))
		case KindEnd:
			events = append(events, "end")
		case KindSpace:
			events = append(events, "space")
		}
	}
}

// condition is the stream error of err, or its text.
func condition(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Condition
	}
	return err.Error()
}

func TestStream(t *testing.T) {
	const in = clientHeader + "\n <message to='a@b'><body>1 &lt; 2</body></message><presence/>  <iq id='1' type='get'>" +
		"<ping xmlns='urn:xmpp:ping'/></iq><a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream >\n"
	want := []string{
		"header", "space", "<message to='a@b'><body>1 &lt; 2</body></message>", "<presence/>", "space",
		"<iq id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", "<a xmlns='urn:xmpp:sm:3' h='1'/>", "end", "space",
	}
	for name, src := range map[string]io.Reader{
		"at once":           strings.NewReader(in),
		"byte by byte":      iotest.OneByteReader(strings.NewReader(in)),
		"EOF with the last": iotest.DataErrReader(strings.NewReader(in)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(NewReader(src, Limits{}))
			got = slices.CompactFunc(got, func(a, b string) bool { return a == "space" && b == "space" })
			if err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("got %q, %v\nwant %q, EOF", got, err, want)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	in := "<?xml version=\"1.0\" encoding='UTF-8' standalone='yes' ?>\n<stream:stream from='a&amp;b' to='x.org' id='i1' version='1.0' xml:lang='de'" +
		" xmlns='jabber:server' xmlns:db=\"jabber:server:dialback\" xmlns:stream='http://etherx.jabber.org/streams'>"
	ev, err := NewReader(strings.NewReader(in), Limits{}).Next()
	if err != nil {
		t.Fatal(err)
	}
	h := ev.Header
	want := Header{From: "a&b", To: "x.org", ID: "i1", Version: "1.0", Lang: "de", ContentNS: NSServer, NS: NSStreams, HasXMLDecl: true}
	prefixes := map[string]string{"db": "jabber:server:dialback", "stream": NSStreams}
	if !maps.Equal(h.Prefixes, prefixes) {
		t.Errorf("prefixes %v, want %v", h.Prefixes, prefixes)
	}
	h.Prefixes = nil
	want.Prefixes = nil
	if h.From != want.From || h.To != want.To || h.ID != want.ID || h.Version != want.Version || h.Lang != want.Lang ||
		h.ContentNS != want.ContentNS || h.NS != want.NS || h.HasXMLDecl != want.HasXMLDecl {
		t.Errorf("got %+v, want %+v", *h, want)
	}
}

func TestHeaderFaults(t *testing.T) {
	const open = `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'`
	for _, c := range []struct{ in, want string }{
		{"", "EOF"},
		{" \n", "EOF"},
		{open, "unexpected EOF"},
		{"<?xml version='1.0'", "unexpected EOF"},
		{"GET / HTTP/1.1\r\n", NotWellFormed},
		{"\x16\x03\x01", NotWellFormed},
		{"\xff\xfe<\x00", NotWellFormed},
		{"\xef\xbb\xbf" + open + ">", NotWellFormed},
		{open + "/>", BadFormat},
		{"<stream xmlns='jabber:client'>", InvalidNamespace},
		{"<c:stream xmlns:c='jabber:client'>", InvalidNamespace},
		{"<stream:stream xmlns:stream='http://example.org/streams'>", InvalidNamespace},
		{"<stream:streams xmlns:stream='http://etherx.jabber.org/streams'>", BadFormat},
		{"<stream:stream xmlns='jabber:client'>", NotWellFormed},
		{"</stream:stream>", NotWellFormed},
		{"<!DOCTYPE a>" + open + ">", RestrictedXML},
		{"<!-- a -->" + open + ">", RestrictedXML},
		{"<?php ?>" + open + ">", RestrictedXML},
		{"<?xml-stylesheet ?>" + open + ">", RestrictedXML},
		{" <?xml version='1.0'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.0'?><?xml version='1.0'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.1'?>" + open + ">", BadFormat},
		{"<?xml version='1.0' encoding='iso-8859-1'?>" + open + ">", UnsupportedEncoding},
		{"<?xml version='1.0' encoding='UTF-16'?>" + open + ">", UnsupportedEncoding},
		{"<?xml encoding='UTF-8'?>" + open + ">", NotWellFormed},
		{"<?xml encoding='UTF-8' version='1.0'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.0'encoding='UTF-8'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.0' version='1.0'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.0' standalone='maybe'?>" + open + ">", NotWellFormed},
		{"<?xml version='1.0' x='maybe'?>" + open + ">", NotWellFormed},
		{"<?xml version?>" + open + ">", NotWellFormed},
		{"<?xml ?>" + open + ">", NotWellFormed},
		{open + " to='" + strings.Repeat("a", 1000) + "'>", PolicyViolation},
		{open + strings.Repeat(" ", 1000) + ">", PolicyViolation},
		{strings.Repeat(" ", 1000) + open + ">", PolicyViolation},
		{open + " a='' b='' c=''>", PolicyViolation},
		{open + " to='a' to='a'>", NotWellFormed},
		{open + "><?xml version='1.0'?>", RestrictedXML},
		{open + ">" + open + ">", "unexpected EOF"},
		{open + "></stream:stream><a/>", NotWellFormed},
		{open + "></stream>", NotWellFormed},
		{open + "></stream:stream", "unexpected EOF"},
	} {
		for _, src := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			if _, err := read(NewReader(src, Limits{Bytes: 500, Attrs: 4})); condition(err) != c.want {
				t.Errorf("%q: %v, want %s", c.in, err, c.want)
			}
		}
	}
}

func TestMarkupFaults(t *testing.T) {
	faults(t, []fault{
		{"", "EOF"},
		{"<a>", "unexpected EOF"},
		{"<", "unexpected EOF"},
		{"text", BadFormat},
		{"<a/>text", BadFormat},
		{"<![CDATA[]]>", BadFormat},
		{"&amp;", BadFormat},
		{"\x00", BadFormat},
		{"<a></b>", NotWellFormed},
		{"<a></a b=''>", NotWellFormed},
		{"<a><b></a></b>", NotWellFormed},
		{"<a></A>", NotWellFormed},
		{"<a></ a>", NotWellFormed},
		{"<p:a xmlns:p='u'></a>", NotWellFormed},
		{"< a/>", NotWellFormed},
		{"<1/>", NotWellFormed},
		{"<-a/>", NotWellFormed},
		{"<a/ >", NotWellFormed},
		{"<a/b>", NotWellFormed},
		{"<:a/>", NotWellFormed},
		{"<a:/>", NotWellFormed},
		{"<stream:a:b/>", NotWellFormed},
		{"<a\xff/>", UnsupportedEncoding},
		{"<a\u00d7/>", NotWellFormed},
	})
}

func TestAttributeFaults(t *testing.T) {
	faults(t, []fault{
		{"<a b/>", NotWellFormed},
		{"<a b=c/>", NotWellFormed},
		{"<a b='c/>", "unexpected EOF"},
		{"<a b='c/><", NotWellFormed},
		{"<a b='c\"/>'", "unexpected EOF"},
		{"<a b='1'c='2'/>", NotWellFormed},
		{"<a b='1' b='2'/>", NotWellFormed},
		{"<a xmlns='1' xmlns='2'/>", NotWellFormed},
		{"<a xmlns:p='1' xmlns:p='2'/>", NotWellFormed},
		{"<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", NotWellFormed},
		{"<a p:b='' q:b='' xmlns:p='u' xmlns:q='&#117;'/>", NotWellFormed},
		{"<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>", NotWellFormed},
		{"<a xmlns='http://www.w3.org/XML/1998/namespace'/>", NotWellFormed},
		{"<a xmlns='http://www.w3.org/2000/xmlns/'/>", NotWellFormed},
		{"<a xmlns:x='http://www.w3.org/2000/xmlns/'/>", NotWellFormed},
		{"<a xmlns:xml='u'/>", NotWellFormed},
		{"<a xmlns:xmlns='u'/>", NotWellFormed},
		{"<a xmlns:p=''/>", NotWellFormed},
		{"<p:a/>", NotWellFormed},
		{"<a p:b=''/>", NotWellFormed},
		{"<a><b xmlns:p='u'/><p:b/></a>", NotWellFormed},
		{"<xmlns:a/>", NotWellFormed},
	})
}

func TestTextFaults(t *testing.T) {
	faults(t, []fault{
		{"<a b='<'/>", NotWellFormed},
		{"<a b='&'/>", NotWellFormed},
		{"<a b='\x01'/>", NotWellFormed},
		{"<a b='\xff'/>", UnsupportedEncoding},
		{"<a b='&foo;'/>", RestrictedXML},
		{"<a>&nbsp;</a>", RestrictedXML},
		{"<a>& </a>", NotWellFormed},
		{"<a>&;</a>", NotWellFormed},
		{"<a>&amp</a>", NotWellFormed},
		{"<a>&1;</a>", NotWellFormed},
		{"<a>&#;</a>", NotWellFormed},
		{"<a>&#x;</a>", NotWellFormed},
		{"<a>&#X41;</a>", NotWellFormed},
		{"<a>&#xg;</a>", NotWellFormed},
		{"<a>&#1a;</a>", NotWellFormed},
		{"<a>&#0;</a>", NotWellFormed},
		{"<a>&#8;</a>", NotWellFormed},
		{"<a>&#xD800;</a>", NotWellFormed},
		{"<a>&#xFFFE;</a>", NotWellFormed},
		{"<a>&#x110000;</a>", NotWellFormed},
		{"<a>&#99999999999999999999;</a>", NotWellFormed},
		{"<a>\x00</a>", NotWellFormed},
		{"<a>\x0b</a>", NotWellFormed},
		{"<a>\uffff</a>", NotWellFormed},
		{"<a>\xed\xa0\x80</a>", UnsupportedEncoding},
		{"<a>\xc0\x80</a>", UnsupportedEncoding},
		{"<a>\xe2\x82</a>", UnsupportedEncoding},
		{"<a>]]></a>", NotWellFormed},
		{"<a><![CDATA[\x00]]></a>", NotWellFormed},
		{"<a><![CDATA[\xff]]></a>", UnsupportedEncoding},
		{"<a><![CDAT[]]></a>", NotWellFormed},
		{"<a><![INCLUDE[]]></a>", NotWellFormed},
		{"<a><!-- --></a>", RestrictedXML},
		{"<!-- -->", RestrictedXML},
		{"<!DOCTYPE a>", RestrictedXML},
		{"<a><!ENTITY b></a>", RestrictedXML},
		{"<a><?b?></a>", RestrictedXML},
		{"<?b?>", RestrictedXML},
	})
}

func TestStanzaFaults(t *testing.T) {
	faults(t, []fault{
		{"<c:message xmlns:c='jabber:client'/>", BadNamespacePrefix},
		{"<c:message xmlns:c='jabber:server'/>", BadNamespacePrefix},
		{"<a>" + strings.Repeat("x", 300) + "</a>", PolicyViolation},
		{"<a>" + strings.Repeat("x", 300), PolicyViolation},
		{"<a b='" + strings.Repeat("x", 300), PolicyViolation},
		{"<a" + strings.Repeat(" ", 300), PolicyViolation},
		{"<a></a" + strings.Repeat(" ", 300), PolicyViolation},
		{"<" + strings.Repeat("x", 300), PolicyViolation},
		{"</" + strings.Repeat("x", 300), PolicyViolation},
		{"<a><![CDATA[" + strings.Repeat("x", 300), PolicyViolation},
		{"<a b='' c='' d='' e='' f=''/>", PolicyViolation},
		{"<a><b xmlns:a='u' xmlns:b='u'><b xmlns:c='u' xmlns:d='u'><b xmlns:e='u'/></b></b></a>", PolicyViolation},
		{"<a><b><c><d/></c></b></a>", PolicyViolation},
		{"<a><b/><b/><b><b/><b/></b><b/></a>", PolicyViolation},
	})
}

type fault struct{ in, want string }

// faults fails where what follows a header does not end as it should, and stay ended.
func faults(t *testing.T, cases []fault) {
	t.Helper()
	for _, c := range cases {
		for _, src := range []io.Reader{strings.NewReader(clientHeader + c.in), iotest.OneByteReader(strings.NewReader(clientHeader + c.in))} {
			r := NewReader(src, Limits{Bytes: 250, Depth: 3, Attrs: 4, Children: 5})
			_, err := read(r)
			if condition(err) != c.want {
				t.Errorf("%q: %v, want %s", c.in, err, c.want)
			}
			if _, again := r.Next(); condition(again) != c.want {
				t.Errorf("%q: %v the second time, want %s", c.in, again, c.want)
			}
		}
	}
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"<a b = \"1\"\n\tc='>'\r\n></a\n>", ""},
		{"<a b='\"' c=\"'\"/>", ""},
		{"<a xml:lang='en' xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", ""},
		{"<a><xml:b/></a>", ""},
		{"<a>]] ]&gt; &#x1F600;&#10;&quot;&apos;&amp;\u00e4\U0001F600</a>", ""},
		{"<a><![CDATA[<&]]]]><![CDATA[>]]></a>", ""},
		{"<\u00e9l\u00e9ment b.-1='\u4e2d'/>", ""},
		{"<b xmlns:p='u' xmlns:q='v' p:b='' q:b='' b=''/>", ""},
		{"<a><b xmlns='jabber:client' xmlns:p='u'><p:b/></b><c:message xmlns:c='jabber:client'/></a>", ""},
		{"<message xmlns='jabber:client' a='1'/>", "<message a='1'/>"},
		{"<message a='1' xmlns=\"jabber:client\"><b/></message>", "<message a='1'><b/></message>"},
		{"<message xmlns='jabber:server'/>", ""},
		{"<a xmlns=''/>", ""},
		{"<stream:error><a/></stream:error>", "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><a/></stream:error>"},
		{"<a xmlns='jabber:client' b='1'><stream:b/></a>", "<a xmlns:stream='http://etherx.jabber.org/streams' b='1'><stream:b/></a>"},
		{"<a stream:b=''/>", "<a xmlns:stream='http://etherx.jabber.org/streams' stream:b=''/>"},
		{"<stream:a xmlns:stream='u'/>", ""},
	} {
		r := NewReader(strings.NewReader(clientHeader+c.in), Limits{})
		got, err := read(r)
		if c.want == "" {
			c.want = c.in
		}
		if err != io.EOF || !slices.Equal(got, []string{"header", c.want}) {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
}

func TestLimitsExact(t *testing.T) {
	const in = "<a b=''><c><d/></c></a>"
	exact := Limits{Bytes: len(in), Depth: 3, Attrs: 1, Children: 2}
	if _, err := Parse([]byte(in), NSClient, exact); err != nil {
		t.Error(err)
	}
	for _, lim := range []Limits{
		{Bytes: len(in) - 1}, {Depth: 2}, {Children: 1},
	} {
		if _, err := Parse([]byte(in), NSClient, lim); err == nil || condition(err) != PolicyViolation {
			t.Errorf("%+v: %v", lim, err)
		}
	}
	r := NewReader(strings.NewReader(clientHeader+in), Limits{})
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.SetLimits(Limits{Bytes: len(in) - 1})
	if _, err := r.Next(); err == nil || condition(err) != PolicyViolation {
		t.Errorf("after SetLimits: %v", err)
	}
}

func TestPrefixFree(t *testing.T) {
	in := "<stream xmlns='http://etherx.jabber.org/streams'><message xmlns='jabber:client'><body/></message><features/></stream>"
	got, err := read(NewReader(strings.NewReader(in), Limits{}))
	want := []string{"header", "<message><body/></message>", "<features xmlns='http://etherx.jabber.org/streams'/>", "end"}
	if err != io.EOF || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRestart(t *testing.T) {
	src := strings.NewReader(clientHeader + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\n" + clientHeader + "<iq/>")
	r := NewReader(src, Limits{})
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if want := len("\n" + clientHeader + "<iq/>"); r.Buffered() != want {
		t.Fatalf("buffered %d, want %d", r.Buffered(), want)
	}
	r.Restart(src)
	got, err := read(r)
	if err != io.EOF || !slices.Equal(got, []string{"header", "<iq/>"}) {
		t.Errorf("the same source: %q, %v", got, err)
	}

	plain := strings.NewReader(clientHeader + "<starttls/><injected/>")
	r = NewReader(plain, Limits{})
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if r.Buffered() != len("<injected/>") {
		t.Errorf("buffered %d", r.Buffered())
	}
	r.Restart(bytes.NewReader([]byte(clientHeader + "<iq/>")))
	if r.Buffered() != 0 {
		t.Errorf("buffered %d after another source", r.Buffered())
	}
	got, err = read(r)
	if err != io.EOF || !slices.Equal(got, []string{"header", "<iq/>"}) {
		t.Errorf("another source: %q, %v", got, err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A source that can not be compared is another one; it must not panic.
func TestRestartUncomparable(t *testing.T) {
	src := readFunc(strings.NewReader(clientHeader).Read)
	r := NewReader(src, Limits{})
	r.Restart(src)
	if got, err := read(r); err != io.EOF || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
}

// An error of the source, a deadline for example, loses nothing.
func TestSourceError(t *testing.T) {
	deadline := errors.New("deadline")
	parts := []string{clientHeader + "<mess", "", "age/><iq", "", "/>"}
	src := readFunc(func(p []byte) (int, error) {
		if len(parts) == 0 {
			return 0, io.EOF
		}
		part := parts[0]
		parts = parts[1:]
		if part == "" {
			return 0, deadline
		}
		return copy(p, part), nil
	})
	r := NewReader(src, Limits{})
	var got []string
	for {
		events, err := read(r)
		got = append(got, events...)
		if err == io.EOF {
			break
		}
		if err != deadline {
			t.Fatal(err)
		}
	}
	if want := []string{"header", "<message/>", "<iq/>"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestNoProgress(t *testing.T) {
	src := readFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := NewReader(src, Limits{}).Next(); err != io.ErrNoProgress {
		t.Error(err)
	}
}

// The buffer never exceeds the limit and 4 KiB, and is small again after a large element.
func TestBuffer(t *testing.T) {
	const limit = 100_000
	big := "<a>" + strings.Repeat("x", limit-7) + "</a>"
	for _, in := range []string{clientHeader + big + "<b/>", clientHeader + big + big + "<b/>", clientHeader + big[:limit-1] + big} {
		sent := 0
		var r *Reader
		src := readFunc(func(p []byte) (int, error) {
			if max := limit + readBuffer; len(r.buf) > max {
				t.Fatalf("buffer of %d, want at most %d", len(r.buf), max)
			}
			n := copy(p[:min(len(p), 1000)], in[sent:])
			sent += n
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil
		})
		r = NewReader(src, Limits{Bytes: limit})
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
		if len(r.buf) != idleBuffer {
			t.Errorf("idle buffer of %d", len(r.buf))
		}
	}
}

// A few bytes make an attribute, which takes ten times as many in a tree: they count.
func TestAttributesCount(t *testing.T) {
	in := "<a>"
	for range 100 {
		in += "<b"
		for i := range 64 {
			in += fmt.Sprintf(" a%d=''", i)
		}
		in += "/>"
	}
	in += "</a>"
	for children, want := range map[int]string{880: "too many elements", 1000: ""} {
		_, err := Parse([]byte(in), NSClient, Limits{Children: children})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", children, err)
		}
	}
}
