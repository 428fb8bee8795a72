package pep

import (
	"slices"
	"testing"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// FuzzStandalone: whatever is around it, a payload means the same where it is put.
func FuzzStandalone(f *testing.F) {
	for _, seed := range []string{
		"<x/>", "<x xmlns=''/>", "<x xmlns='urn:x'><y/></x>", "<p:x><y/></p:x>", "<p:x xmlns:p='urn:q' p:a='1'/>", "<x xml:lang='de'>a<![CDATA[<]]>&amp;</x>",
		"<x\n\txmlns:q='urn:q'/>", "<é/>",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, payload string, prefixed bool) {
		open, end := "<pubsub xmlns='"+NS+"'><item>", "</item></pubsub>"
		if prefixed {
			open, end = "<p:pubsub xmlns:p='"+NS+"'><p:item>", "</p:item></p:pubsub>"
		}
		before, ok := item(open + payload + end)
		if !ok || len(before.Children) != 1 {
			return
		}
		raw := standalone(before.Children[0])
		for _, around := range [][2]string{
			{"<event xmlns='" + NSEvent + "'><item>", "</item></event>"},
			{"<event xmlns='urn:p' xmlns:p='urn:other'><item>", "</item></event>"},
			{"<event><item>", "</item></event>"},
		} {
			after, ok := item(around[0] + string(raw) + around[1])
			if !ok || len(after.Children) != 1 || !same(before.Children[0], after.Children[0]) {
				t.Fatalf("%q became %q in %q", payload, raw, around[0])
			}
		}
	})
}

func item(inner string) (*frame.Node, bool) {
	el, err := frame.Parse([]byte("<iq>"+inner+"</iq>"), xmpp.NSClient, frame.Limits{Attrs: 200, Depth: 100})
	if err != nil {
		return nil, false
	}
	n := el.Node()
	if len(n.Children) != 1 || len(n.Children[0].Children) != 1 {
		return nil, false
	}
	return n.Children[0].Children[0], true
}

func same(a, b *frame.Node) bool {
	return a.Name == b.Name && a.NS == b.NS && a.Text == b.Text && len(a.Attrs) == len(b.Attrs) &&
		slices.EqualFunc(a.Attrs, b.Attrs, func(x, y frame.Attr) bool { return x.Name == y.Name && x.NS == y.NS && x.Value == y.Value }) &&
		slices.EqualFunc(a.Children, b.Children, same)
}
