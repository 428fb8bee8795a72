package s2s

import (
	"pibox/internal/store"
	"pibox/internal/xmpp"

	"mellium.im/xmpp/stanza"
)

// dues are the bytes that senders have in the log for other servers.
type dues map[xmpp.JID]int

func (d dues) add(from xmpp.JID, n int) {
	if d[from] += n; d[from] == 0 {
		delete(d, from)
	}
}

// dueSize is what an entry counts: many small ones take more of the card than their stanzas.
func dueSize(st *xmpp.Stanza) int { return len(st.Raw) + itemCost }

// MayOwe implements [xmpp.DurableRemote].
func (s *Server) MayOwe(st *xmpp.Stanza) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dues[st.From.Bare()]+dueSize(st) > s.opt.DurableBytes {
		return xmpp.Errorf(stanza.ResourceConstraint, "too many of your messages wait for other servers")
	}
	return nil
}

// due counts an entry that is owed from now on, or, by a negative size, no more. One that was read from the log may have arrived before it is known to be
// owed: then the sum is below zero for a moment. Called with the lock.
func (s *Server) due(d *debt, from xmpp.JID, size int) {
	if d.dues == nil {
		d.dues = dues{}
	}
	d.dues.add(from, size)
	s.dues.add(from, size)
}

// settleDues ends the account of a debt that is no more: entries that were lost from the log never arrived. Called with the lock.
func (s *Server) settleDues(d *debt) {
	for from, n := range d.dues {
		s.dues.add(from, -n)
	}
	d.dues = nil
}

// loadDues counts what earlier runs left owed.
func (s *Server) loadDues(tx *store.Tx) {
	first, owing := uint64(0), false
	for _, l := range s.links {
		if d := &l.debt; !owing || d.read < first {
			first, owing = d.read, true
		}
	}
	if !owing {
		return
	}
	for seq, e := range store.LogRemote(tx, first) {
		st, err := xmpp.ParseStanza(e.Stanza)
		if err != nil {
			continue
		}
		if l := s.links[pair{st.From.Domain, st.To.Domain}]; l != nil && seq > l.debt.read {
			s.due(&l.debt, st.From.Bare(), dueSize(st))
		}
	}
}
