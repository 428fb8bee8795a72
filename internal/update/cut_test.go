package update

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pibox/internal/slot"
)

// model is a card whose power can fail, or which can refuse a write, at every operation. What was not synced is then lost or kept, page by
// page; the sector with the slots' state is written or not.
type model struct {
	state []byte
	slots [2][]byte
	// pages that were written and not synced, of the slot that is written to
	target  slot.Slot
	pending map[int64][]byte

	ops  int // so far
	cut  int // the operation at which the power fails; 0: it does not
	fail int // the operation that gives an error
	dead bool
	rand *rand.Rand
}

var (
	errCut = errors.New("the power failed")
	errBad = errors.New("input/output error")
)

func newModel(running slot.Slot, seed uint64) *model {
	m := &model{rand: rand.New(rand.NewPCG(seed, 2)), target: running.Other(), pending: map[int64][]byte{}}
	m.state = slot.State{Good: running, Trial: slot.None, Generation: 3}.Encode()
	m.slots = [2][]byte{image(10), image(11)}
	return m
}

// op counts an operation. half tells that the power fails in the midst of it.
func (m *model) op() (half bool, err error) {
	if m.dead {
		return false, errCut
	}
	m.ops++
	switch m.ops {
	case m.fail:
		return false, errBad
	case m.cut:
		return true, errCut
	}
	return false, nil
}

// die drops what the card had not got to writing.
func (m *model) die() {
	m.dead = true
	for at, page := range m.pending {
		if m.rand.IntN(2) == 0 {
			copy(m.slots[m.target][at:], page)
		}
	}
	clear(m.pending)
}

func (m *model) WriteAt(p []byte, at int64) (int, error) {
	half, err := m.op()
	if err == nil || half {
		for off := 0; off < len(p); off += blockSize {
			m.pending[at+int64(off)] = bytes.Clone(p[off:min(off+blockSize, len(p))])
		}
	}
	if half {
		m.die()
	}
	return len(p), err
}

func (m *model) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, m.slots[m.target][at:])
	for from, page := range m.pending {
		if from >= at && from < at+int64(n) {
			copy(p[from-at:], page)
		}
	}
	return n, nil
}

func (m *model) Sync() error {
	half, err := m.op()
	if half {
		m.die()
	}
	if err == nil {
		for at, page := range m.pending {
			copy(m.slots[m.target][at:], page)
		}
		clear(m.pending)
	}
	return err
}

func (m *model) Size() int64  { return testSize }
func (m *model) Close() error { return nil }

func (m *model) Read() (slot.State, error) {
	s, err := slot.Decode(m.state)
	if errors.Is(err, slot.ErrNoState) {
		return slot.State{Trial: slot.None}, nil
	}
	return s, err
}

func (m *model) Update(change func(slot.State) slot.State) (slot.State, error) {
	old, err := m.Read()
	if err != nil {
		return old, err
	}
	s := change(old)
	s.Generation = old.Generation + 1
	half, err := m.op()
	if err == nil || half && m.rand.IntN(2) == 0 {
		m.state = s.Encode()
	}
	if half {
		m.die()
	}
	return s, err
}

// takes is the slot that u-boot takes: of those that can be loaded the one that the state names, or A.
func (m *model) takes() slot.Slot {
	first := slot.A
	if s, err := slot.Decode(m.state); err == nil {
		first = s.Next()
	}
	for _, s := range []slot.Slot{first, first.Other()} {
		if !allZero(m.slots[s][1024:2048]) { // the superblock
			return s
		}
	}
	return slot.None
}

// mustBoot looks whether the card boots something whole, also where the sector with the state is lost, too.
func (m *model) mustBoot(t *testing.T, what string, running slot.Slot, update []byte) {
	t.Helper()
	whole := func(s slot.Slot) bool {
		return s != slot.None && (bytes.Equal(m.slots[s], image(uint64(10+s))) || s != running && bytes.Equal(m.slots[s], update))
	}
	if s := m.takes(); !whole(s) {
		t.Errorf("%s: u-boot takes slot %s, which is not whole", what, s)
	}
	kept := m.state
	m.state = make([]byte, slot.Size)
	if s := m.takes(); !whole(s) {
		t.Errorf("%s, and without the state: u-boot takes slot %s, which is not whole", what, s)
	}
	m.state = kept
}

func (m *model) install(t *testing.T, running slot.Slot, path string) error {
	t.Helper()
	o, err := Open(t.Context(), path, trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	pending := func() error {
		half, err := m.op()
		if half {
			m.die()
		}
		return err
	}
	return write(t.Context(), m, running, func() (slotTarget, error) { return m, nil }, o, pending, nil)
}

func TestACutAtAnyMomentLeavesABoxThatBoots(t *testing.T) {
	update := image(20)
	path := saved(t, file(t, update, manifest(5), testKey(1)))
	for _, running := range []slot.Slot{slot.A, slot.B} {
		whole := newModel(running, 0)
		if err := whole.install(t, running, path); err != nil {
			t.Fatal(err)
		}
		if s, err := whole.Read(); err != nil || s != (slot.State{Good: running, Trial: running.Other(), Tries: Tries, Generation: 4}) {
			t.Fatalf("%+v, %v", s, err)
		}
		if whole.ops < 15 {
			t.Fatalf("only %d operations", whole.ops)
		}
		for cut := 1; cut <= whole.ops; cut++ {
			for seed := range uint64(6) {
				m := newModel(running, seed)
				m.cut = cut
				if err := m.install(t, running, path); !errors.Is(err, errCut) && err == nil {
					t.Fatalf("it went on after the cut: %v", err)
				}
				what := fmt.Sprintf("%s runs, cut at operation %d, seed %d", running, cut, seed)
				m.mustBoot(t, what, running, update)
				// The same command makes it good.
				m.dead, m.cut = false, 0
				if err := m.install(t, running, path); err != nil {
					t.Fatalf("%s: again: %v", what, err)
				}
				if s, err := m.Read(); err != nil || s.Next() != running.Other() || !bytes.Equal(m.slots[running.Other()], update) {
					t.Fatalf("%s: again: %+v, %v", what, s, err)
				}
			}
		}
	}
}

func TestAnErrorAtAnyMomentTriesNothing(t *testing.T) {
	update := image(20)
	path := saved(t, file(t, update, manifest(5), testKey(1)))
	whole := newModel(slot.A, 0)
	if err := whole.install(t, slot.A, path); err != nil {
		t.Fatal(err)
	}
	for fail := 1; fail <= whole.ops; fail++ {
		m := newModel(slot.A, uint64(fail))
		m.fail = fail
		if err := m.install(t, slot.A, path); err == nil {
			t.Errorf("operation %d failed, and nobody was told", fail)
		}
		if s, err := m.Read(); err != nil || s.Next() != slot.A {
			t.Errorf("operation %d failed: %+v, %v", fail, s, err)
		}
		m.mustBoot(t, fmt.Sprintf("operation %d failed", fail), slot.A, update)
	}
}

// An update after a fallback, or over another one that was not tried yet, begins with a state that names what runs.
func TestWriteBeginsWithWhatRuns(t *testing.T) {
	path := saved(t, file(t, image(20), manifest(5), testKey(1)))
	for name, state := range map[string][]byte{
		"u-boot fell back": slot.State{Good: slot.B, Trial: slot.None, Generation: 1}.Encode(),
		"one waits":        slot.State{Good: slot.A, Trial: slot.B, Tries: 3, Generation: 1}.Encode(),
		"no state":         make([]byte, slot.Size),
	} {
		m := newModel(slot.A, 1)
		m.state = state
		m.cut = 2 // the first write to the slot
		if err := m.install(t, slot.A, path); err == nil {
			t.Fatal("no cut")
		}
		if s, err := slot.Decode(m.state); err != nil || s.Good != slot.A || s.Trial != slot.None {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}
