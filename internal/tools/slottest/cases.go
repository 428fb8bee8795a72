package main

import (
	"bytes"

	"pibox/internal/slot"
)

const stateSector = slot.Sector

// boot is what is expected of one start of the machine.
type boot struct {
	slot  string
	trial bool
}

// testCase is a card, and what must come of it.
type testCase struct {
	name  string
	state []byte // the sector, before
	// a and b are what is wrong with a slot.
	a, b     damage
	readOnly bool   // the card takes no writes
	fails    string // the slot whose system restarts instead of ending well
	boots    []boot // all but the last one fail
	want     []byte // the sector, after
}

type damage int

const (
	whole damage = iota
	noKernel
	noInitrd
	garbledKernel
	noSuperblock // as an update leaves it that was cut
)

func cases() []testCase {
	st := func(good, trial slot.Slot, tries, generation uint32) []byte {
		return slot.State{Good: good, Trial: trial, Tries: tries, Generation: generation}.Encode()
	}
	empty := make([]byte, slot.Size)
	torn := bytes.Clone(st(slot.B, slot.None, 0, 5))
	torn[slot.Size/2-240] ^= 0x10
	const a, b, none = slot.A, slot.B, slot.None
	return []testCase{
		{name: "no state", state: empty, boots: []boot{{"a", false}}, want: empty},
		{name: "torn state of good b", state: torn, boots: []boot{{"a", false}}, want: torn},
		{name: "good b", state: st(b, none, 0, 1), boots: []boot{{"b", false}}, want: st(b, none, 0, 1)},
		{name: "trial b, 3 tries", state: st(a, b, 3, 1), boots: []boot{{"b", true}}, want: st(a, b, 2, 2)},
		{name: "trial a, last try", state: st(b, a, 1, 7), boots: []boot{{"a", true}}, want: st(b, a, 0, 8)},
		{name: "trial b, no try left", state: st(a, b, 0, 9), boots: []boot{{"a", false}}, want: st(a, b, 0, 9)},
		{
			name: "trial b never ends well", state: st(a, b, 2, 1), fails: "b",
			boots: []boot{{"b", true}, {"b", true}, {"a", false}}, want: st(a, b, 0, 3),
		},
		{name: "good b without kernel", state: st(b, none, 0, 1), b: noKernel, boots: []boot{{"a", false}}, want: st(b, none, 0, 1)},
		{name: "good a without initrd", state: st(a, none, 0, 1), a: noInitrd, boots: []boot{{"b", false}}, want: st(a, none, 0, 1)},
		{name: "trial b with a garbled kernel", state: st(a, b, 2, 1), b: garbledKernel, boots: []boot{{"a", false}}, want: st(a, b, 1, 2)},
		{name: "torn state while a is half written", state: torn, a: noSuperblock, boots: []boot{{"b", false}}, want: torn},
		{name: "trial b on a card that takes no writes", state: st(a, b, 3, 1), readOnly: true, boots: []boot{{"a", false}}, want: st(a, b, 3, 1)},
	}
}
