package throttle

import (
	"net/netip"
	"sync"
)

// Connections counts the open connections of each address (IPv6: of each /64). It is for use by several goroutines.
type Connections struct {
	max int

	mu   sync.Mutex
	open map[network]int
}

// NewConnections allows max connections from one address; 0 is no limit. A family of 10 with 3 devices each may come from one address,
// and each device may hold a dead connection beside its new one.
func NewConnections(max int) *Connections {
	return &Connections{max: max, open: make(map[network]int)}
}

// Acquire counts a connection, or tells that it is one too many. Each true needs one Release.
func (c *Connections) Acquire(addr netip.Addr) bool {
	n := networkOf(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max > 0 && c.open[n] >= c.max {
		return false
	}
	c.open[n]++
	return true
}

// Release takes back one Acquire.
func (c *Connections) Release(addr netip.Addr) {
	n := networkOf(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[n] <= 1 {
		delete(c.open, n)
		return
	}
	c.open[n]--
}
