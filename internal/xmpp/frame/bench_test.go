package frame

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

const chat = `<message from='romeo@montague.example/orchard' to='juliet@capulet.example' id='ktx72v49' type='chat' xml:lang='en'>` +
	`<body>Art thou not Romeo, and a Montague?</body><active xmlns='http://jabber.org/protocol/chatstates'/>` +
	`<request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='ktx72v49'/></message>`

// repeat is a stream that has the same stanza for ever.
type repeat struct {
	header, stanza []byte
	off            int
}

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.header) > 0 {
		n := copy(p, r.header)
		r.header = r.header[n:]
		return n, nil
	}
	n := copy(p, r.stanza[r.off:])
	r.off = (r.off + n) % len(r.stanza)
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(chat)))
	r := NewReader(&repeat{header: []byte(clientHeader), stanza: []byte(chat)}, Limits{})
	if _, err := r.Next(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBulk reads many stanzas from one buffer, as under load.
func BenchmarkBulk(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(chat)))
	r := NewReader(&repeat{header: []byte(clientHeader), stanza: []byte(strings.Repeat(chat, 100))}, Limits{})
	if _, err := r.Next(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	raw := []byte(chat)
	for b.Loop() {
		if _, err := Parse(raw, NSClient, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOracle is encoding/xml on the same bytes, to compare with on a machine that does other things as well.
func BenchmarkOracle(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		d := xml.NewDecoder(strings.NewReader(chat))
		for {
			if _, err := d.Token(); err != nil {
				break
			}
		}
	}
}

func BenchmarkWith(b *testing.B) {
	b.ReportAllocs()
	e := mustParse(b, chat)
	for b.Loop() {
		e.With("from", "romeo@montague.example/garden")
	}
}

func BenchmarkWithChild(b *testing.B) {
	b.ReportAllocs()
	e := mustParse(b, chat)
	child := []byte("<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>")
	for b.Loop() {
		e.WithChild(child)
	}
}

func BenchmarkNode(b *testing.B) {
	b.ReportAllocs()
	e := mustParse(b, chat)
	for b.Loop() {
		e.Node()
	}
}

// BenchmarkHostile is the most work per byte that the default limits allow, in what may be split worst.
func BenchmarkHostile(b *testing.B) {
	const size = 256 << 10
	many := func(begin, part, end string) string {
		return begin + strings.Repeat(part, min((size-len(begin)-len(end))/len(part), 4000)) + end
	}
	prefixes := "<a"
	for i := range 60 {
		prefixes += " xmlns:p" + string(rune('A'+i/20)) + string(rune('a'+i%20)) + "='u'"
	}
	for name, in := range map[string]string{
		"prefixes":  many(prefixes+" xmlns:z='z'>", "<z:b z:c='' z:d='' z:e='' z:f='' z:g=''/>", "</a>"),
		"one byte":  many("<a b='", ">", "'/>"),
		"text":      many("<a>", "<b/>&#x1F600;", "</a>"),
		"gt in tag": "<a b='" + strings.Repeat(">", size-9) + "'/>",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				src := bytes.NewReader([]byte(clientHeader + in))
				one := readFunc(func(p []byte) (int, error) { return src.Read(p[:1]) })
				r := NewReader(one, Limits{})
				for range 2 {
					if _, err := r.Next(); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
