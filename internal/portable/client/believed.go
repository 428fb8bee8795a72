package client

import (
	"context"

	"pibox/internal/xmpp"
)

// Verify has the contacts' servers look whether it is true what the new list says of who lets the new address see him, before anybody was asked for that.
// Snikket takes subscriptions out of a file as they are there, and no contact knows of them. Presence of an available resource has the servers probed;
// one that knows of no subscription says so (RFC 6121 §4.3.2), which takes it off the list (§3.2.3). Behind that each server is asked something that it
// answers in any case: when that is there, the other thing is. It is called before Will and Tell.
func (m *Mover) Verify(ctx context.Context, all []Contact) error {
	open := 0
	for _, c := range all {
		j, ok := m.address(c)
		if !ok || !m.believes(j, c) {
			continue
		}
		m.listed[j] = true
		if _, known := m.verified[j.Domain]; known || !m.available {
			continue
		}
		m.verified[j.Domain] = false
		open++
		if err := m.s.probe(ctx, j.Host(), func(r reach) { m.verified[j.Domain] = r.answered; open-- }); err != nil {
			return err
		}
	}
	if open > 0 {
		if err := m.s.idle(ctx, m.s.c.Limits.Reach, func() bool { return open == 0 }); err != nil {
			return err
		}
	}
	for j := range m.listed {
		if now, _ := m.s.Contact(j); !now.Sub.To() && !m.asked[j] {
			delete(m.listed, j) // from here on he is one as others are
		}
	}
	return nil
}

// believes tells whether nothing but the new list, as it was before anybody was asked, says that a contact is seen.
func (m *Mover) believes(j xmpp.JID, c Contact) bool {
	now, _ := m.s.Contact(j)
	return c.Sub.To() && now.Sub.To() && (!c.Asked || c.Listed) && !c.Left && !m.asked[j]
}

// unproven tells that a contact who seems to be seen was on the list before, and has not shown himself.
func (m *Mover) unproven(j xmpp.JID) bool { return m.listed[j] && !m.seen[j] }

// refused notes what an "unsubscribed" says: no to a request, unless his server may only have said what Verify did not hear in time.
func (m *Mover) refused(from xmpp.JID) {
	if !m.listed[from] || m.verified[from.Domain] {
		m.denied[from] = m.asked[from]
	}
}
