package c2s

import "pibox/internal/xmpp"

var _ xmpp.Roomy = (*link)(nil)

// Room is xmpp.Roomy.
func (l *link) Room() int {
	o := l.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sm == nil {
		return o.shared.limit - o.cost
	}
	return o.shared.kept - o.cost - o.sm.cost
}
