package moved

import (
	"slices"
	"strings"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// Readers are who is to be able to read the statement of a job's old home, where that lets them be named: the contacts of any state whom the owner did
// not block, the bare domains of their servers, because Prosody asks from there, and the new address.
func (m *Moved) Readers(new xmpp.JID) (all []xmpp.JID, err error) {
	err = m.r.Store.View(func(tx *store.Tx) error {
		prefix := store.Key(new.String(), "")
		job, _ := store.MoveJobs.Get(tx, new.String())
		all = append(all, new)
		for key, c := range store.MoveContacts.All(tx, new.String()) {
			who, err := xmpp.ParseJID(strings.TrimPrefix(key, prefix))
			if err != nil {
				return err
			}
			if !anySub(c.Sub) || who.String() == job.Old || m.blocked(tx, new, who) {
				continue
			}
			for _, j := range []xmpp.JID{who.Bare(), who.Host()} {
				if !m.blocked(tx, new, j) {
					all = append(all, j)
				}
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b xmpp.JID) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all), err
}
