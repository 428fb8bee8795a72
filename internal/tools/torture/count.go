package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// latency is how long the disk takes for a sync: as a card, but ten times as fast.
func latency() func() time.Duration {
	return func() time.Duration {
		if rand.IntN(10) == 0 {
			return time.Duration(rand.Int64N(int64(10 * time.Millisecond)))
		}
		return time.Duration(rand.Int64N(int64(2 * time.Millisecond)))
	}
}

// counts is what was acknowledged, by kind.
type counts struct {
	mu   sync.Mutex
	kind map[string]int
}

func (c *counts) add(kind string) { c.addN(kind, 1) }

func (c *counts) addN(kind string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kind == nil {
		c.kind = map[string]int{}
	}
	c.kind[kind] += n
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var words []string
	for _, k := range slices.Sorted(maps.Keys(c.kind)) {
		if c.kind[k] > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.kind[k], k))
		}
	}
	return strings.Join(words, ", ")
}

func (r *run) summary() {
	slices.Sort(r.logins)
	took := time.Since(r.began)
	fmt.Printf("torture: %d rounds with %d power cuts of %d boxes in %s (%.0f a minute), nothing lost.\n", r.rounds, r.cuts, r.state.Boxes,
		took.Round(time.Second), float64(r.rounds)/took.Minutes())
	fmt.Printf("By stream management: %t; by the archive: %t. Acknowledged: %s.\n", r.offers.sm, r.offers.archive, &r.done)
	if n := len(r.logins); n > 0 {
		fmt.Printf("From start to first login after a cut: median %s, longest %s.\n", r.logins[n/2].Round(time.Millisecond), r.logins[n-1].Round(time.Millisecond))
	}
}
