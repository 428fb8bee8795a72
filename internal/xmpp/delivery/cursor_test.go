package delivery

import (
	"slices"
	"testing"
)

// What is delivered out of order is remembered until everything before it is.
func TestCursor(t *testing.T) {
	var c cursor
	for seq := range uint64(10) {
		c.add(item{seq: 10 + seq, size: 5})
	}
	for _, step := range []struct {
		done  uint64
		at    uint64
		early []uint64
	}{
		{12, 9, []uint64{12}},
		{99, 9, []uint64{12}}, // nobody's
		{12, 9, []uint64{12}}, // again
		{10, 10, []uint64{12}},
		{14, 10, []uint64{12, 14}},
		{11, 12, []uint64{14}},
		{13, 14, []uint64{}},
	} {
		c.done(step.done)
		if c.at() != step.at || !slices.Equal(c.early, step.early) {
			t.Errorf("after %d: at %d, early %v", step.done, c.at(), c.early)
		}
	}
	if c.bytes != 25 || len(c.waiting) != 5 {
		t.Errorf("%d bytes of %d wait", c.bytes, len(c.waiting))
	}
	for seq := uint64(19); seq >= 15; seq-- {
		c.done(seq)
	}
	if c.at() != 19 || c.bytes != 0 || len(c.early) != 0 || c.waiting != nil {
		t.Errorf("in the end %+v", c)
	}
}
