package c2s

import (
	"sync"
	"testing"
)

// Counts are told in order, whoever tells them: a client takes one that goes back for a fault (aioxmpp ends the stream).
func TestCountsInOrder(t *testing.T) {
	var told []uint64
	in := &inbound{tell: func(h uint64) { told = append(told, h) }}
	for range 2000 {
		receipt := in.next()
		var both sync.WaitGroup
		both.Go(receipt.Done)
		both.Go(in.ask)
		both.Wait()
	}
	for i := range told[1:] {
		if told[i+1] < told[i] {
			t.Fatalf("%d was told after %d", told[i+1], told[i])
		}
	}
	if last := told[len(told)-1]; last != 2000 {
		t.Errorf("the last count told is %d", last)
	}
}
