package c2s

import "pibox/internal/xmpp"

var _ xmpp.Roomy = (*link)(nil)

// Room is xmpp.Roomy.
func (l *link) Room() int {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	return l.out.most() - l.out.used()
}
