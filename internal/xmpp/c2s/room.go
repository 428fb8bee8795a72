package c2s

// Room is xmpp.Roomy.
func (c *conn) Room() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.shared.limit - c.out.cost
}
