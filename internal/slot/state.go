// Package slot tells which of the card's two root slots is in use and which boots next.
//
// That stands in one sector of the card, outside of all partitions, which u-boot's script (image/boot.cmd) and this
// package read and write: one write of one sector, which a card does or does not do. docs/updates.md has its layout.
package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Slot is one of the two root partitions.
type Slot uint32

// The slots; None is no slot.
const (
	A    Slot = 0
	B    Slot = 1
	None Slot = 0xffffffff
)

// String is the slot's name on the kernel's command line.
func (s Slot) String() string {
	switch s {
	case A:
		return "a"
	case B:
		return "b"
	}
	return "none"
}

// Parse reads a slot's name.
func Parse(name string) (Slot, error) {
	switch name {
	case "a":
		return A, nil
	case "b":
		return B, nil
	}
	return None, fmt.Errorf("%q is no slot", name)
}

// Other is the slot that s is not.
func (s Slot) Other() Slot {
	switch s {
	case A:
		return B
	case B:
		return A
	}
	return None
}

// State is what the sector says.
type State struct {
	Good  Slot // boots when nothing is tried
	Trial Slot // is tried while Tries is not 0; None: nothing is
	Tries uint32
	// Generation counts the writes.
	Generation uint32
}

const (
	// Sector is the sector's number, and Size its length in bytes.
	Sector = 64
	Size   = 512

	magic = "PIBOXSL1"

	offGood       = 8
	offTrial      = 12
	offTries      = 16
	offGeneration = 20
	offCRC        = 24
)

// ErrNoState: the sector was never written, or is damaged. u-boot boots slot A then.
var ErrNoState = errors.New("slot: the card has no slot state, or a damaged one")

// Decode reads a sector. The error is ErrNoState.
func Decode(sector []byte) (State, error) {
	if len(sector) != Size || string(sector[:len(magic)]) != magic {
		return State{}, ErrNoState
	}
	field := func(at int) uint32 { return binary.LittleEndian.Uint32(sector[at:]) }
	if crc32.ChecksumIEEE(sector[:offCRC]) != field(offCRC) {
		return State{}, ErrNoState
	}
	s := State{Good: Slot(field(offGood)), Trial: Slot(field(offTrial)), Tries: field(offTries), Generation: field(offGeneration)}
	// As u-boot reads it: what is neither is A, or no trial.
	if s.Good != B {
		s.Good = A
	}
	if s.Trial != A && s.Trial != B {
		s.Trial, s.Tries = None, 0
	}
	return s, nil
}

// Encode gives the sector of a state.
func (s State) Encode() []byte {
	sector := make([]byte, Size)
	copy(sector, magic)
	put := func(at int, v uint32) { binary.LittleEndian.PutUint32(sector[at:], v) }
	put(offGood, uint32(s.Good))
	put(offTrial, uint32(s.Trial))
	put(offTries, s.Tries)
	put(offGeneration, s.Generation)
	put(offCRC, crc32.ChecksumIEEE(sector[:offCRC]))
	return sector
}

// Try is the state in which a slot is tried: running is the one that runs now, and boots again when the other does not confirm itself
// in as many tries.
func (s State) Try(running Slot, tries uint32) State {
	return State{Good: running, Trial: running.Other(), Tries: tries, Generation: s.Generation}
}

// Confirm is the state in which the slot that runs boots from now on.
func (s State) Confirm(running Slot) State {
	return State{Good: running, Trial: None, Generation: s.Generation}
}

// GiveUp is the state in which nothing is tried any more.
func (s State) GiveUp() State {
	return State{Good: s.Good, Trial: None, Generation: s.Generation}
}

// Next is the slot that boots next.
func (s State) Next() Slot {
	if s.Trial != None && s.Tries > 0 {
		return s.Trial
	}
	return s.Good
}
