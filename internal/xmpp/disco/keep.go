package disco

import (
	"encoding/json"

	"pibox/internal/xmpp"
)

// save keeps what a session wants to be notified of over a restart of the box: it may have no connection, and can not be asked.
func (c *Caps) save(s *xmpp.Session) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r := c.resources[s.JID]
	if r == nil || !r.known {
		return nil
	}
	raw, err := json.Marshal(r.nodes)
	if err != nil {
		panic(err) // strings
	}
	return raw
}

func (c *Caps) restore(s *xmpp.Session, saved []byte) {
	now, _ := s.Presence()
	if saved == nil || now == nil {
		return
	}
	t, tagged := readTag(now)
	var nodes []string
	if err := json.Unmarshal(saved, &nodes); err != nil || !tagged {
		return // it is asked
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resources[s.JID] = &resource{tag: t, nodes: nodes, known: true}
}
