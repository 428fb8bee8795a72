package store

import (
	"slices"
	"testing"
	"time"
)

// Nodes and their items share a table: neither is taken for the other, whatever the names are.
func TestPEPNodesAndItems(t *testing.T) {
	s := open(t, Options{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	nodes := []string{"a", "a\t", "a\n!", "a b", "aa", "b", "é"}
	if err := s.Update(func(tx *Tx) error {
		for _, account := range []string{"x@y", "x@yy", "xx@y"} {
			for i, n := range nodes {
				PEPNodes.Put(tx, Key(account, n), PEPNode{Created: at})
				for j := range i {
					item := PEPItem{At: at.Add(time.Duration(j)), Publisher: "x@y/r\u00e9", Payload: []byte("<x>\n</x>")}
					PEPItems.Put(tx, Key(account, n, string(rune('i'+j))), item)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error {
		var seen []string
		for name, n := range AllPEPNodes(tx, "x@y") {
			if !n.Created.Equal(at) {
				t.Errorf("node %q was made at %v", name, n.Created)
			}
			seen = append(seen, name)
			PEPItems.Clear(tx, "x@y", name)
			PEPNodes.Delete(tx, Key("x@y", name))
		}
		if !slices.Equal(seen, nodes) {
			t.Errorf("nodes %q", seen)
		}
		if n, size := PEPNodes.Size(tx, "x@y"); n != 0 || size != 0 {
			t.Errorf("%d records, %d bytes are left", n, size)
		}
		item, ok := PEPItems.Get(tx, Key("xx@y", "b", "k"))
		if !ok || !item.At.Equal(at.Add(2)) || item.Publisher != "x@y/r\u00e9" || string(item.Payload) != "<x>\n</x>" {
			t.Errorf("item %v %+v", ok, item)
		}
		stamp, ok := PEPStamps.Get(tx, Key("xx@y", "b", "k"))
		if !ok || !stamp.At.Equal(item.At) {
			t.Errorf("stamp %v %v", ok, stamp.At)
		}
		items := 0
		for range PEPItems.All(tx, "xx@y", "b") {
			items++
		}
		if n, size := PEPItems.Size(tx, "xx@y", "b"); n != 5 || items != 5 || size != 5*(len("xx@y\x00b\x00k")+8+len("x@y/r\u00e9\n<x>\n</x>")) {
			t.Errorf("%d items, counted %d of %d bytes", items, n, size)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPEPItemDamaged(t *testing.T) {
	for _, raw := range []string{"", "12345678", "12345678x", "1234567\n"} {
		var i PEPItem
		if err := i.UnmarshalBinary([]byte(raw)); err == nil {
			t.Errorf("%q was taken for an item", raw)
		}
	}
}
