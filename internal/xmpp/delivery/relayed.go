package delivery

import (
	"bytes"
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// recentRelayed is how many of the messages with a contact are searched for one that his server sends again. It sends again what it had not written
// down to have arrived when it stopped: the last seconds.
const recentRelayed = 1000

// hasRelayed tells whether an account has what another server sends again: the same bytes from the same resource. One without an id is taken to be new,
// because a person may well say the same thing twice. What the account does not keep it does not know.
func hasRelayed(tx *store.Tx, account xmpp.JID, st *xmpp.Stanza) bool {
	if st.ID == "" {
		return false
	}
	wanted := asWritten(st)
	for raw := range store.RecentLog(tx, account.String(), st.From.Bare().String(), recentRelayed) {
		if !bytes.Contains(raw, []byte(st.ID)) {
			continue
		}
		had, err := xmpp.ParseStanza(slices.Clone(raw))
		if err == nil && had.From == st.From && bytes.Equal(asWritten(had), wanted) {
			return true
		}
	}
	return false
}

// asWritten is a message without what servers add on its way.
func asWritten(st *xmpp.Stanza) []byte {
	return st.WithoutChildren(func(c frame.Child) bool {
		return c.NS == nsDelay && c.Name == "delay" || c.NS == xmpp.NSRelayed
	}).Raw
}
