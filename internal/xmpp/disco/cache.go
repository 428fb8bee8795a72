package disco

import "container/list"

// cache keeps, of verified capabilities, the nodes that are wanted. The least recently used goes first.
type cache struct {
	max    int
	recent *list.List // of *cached, the most recently used first
	at     map[subject]*list.Element
}

type cached struct {
	of    subject
	nodes []string
}

func newCache(size int) *cache { return &cache{size, list.New(), map[subject]*list.Element{}} }

func (c *cache) get(of subject) (nodes []string, ok bool) {
	el := c.at[of]
	if el == nil {
		return nil, false
	}
	c.recent.MoveToFront(el)
	return el.Value.(*cached).nodes, true
}

func (c *cache) put(of subject, nodes []string) {
	if _, ok := c.get(of); ok {
		return
	}
	c.at[of] = c.recent.PushFront(&cached{of, nodes})
	if c.recent.Len() > c.max {
		last := c.recent.Back()
		c.recent.Remove(last)
		delete(c.at, last.Value.(*cached).of)
	}
}
