package delivery

import (
	"bytes"
	"slices"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const (
	// recentRelayed is how many of the messages with a contact are searched for one that his server sends again. It sends again what it had not
	// written down to have arrived when it stopped: the last seconds.
	recentRelayed = 1000
	// relayedEnd is in what part of a message its name stands: the end.
	relayedEnd = 256
)

// hasRelayed tells whether an account has what another server sends again. What it does not keep it does not know.
func hasRelayed(tx *store.Tx, account xmpp.JID, st *xmpp.Stanza, id string) bool {
	for raw := range store.RecentLog(tx, account.String(), st.From.Bare().String(), recentRelayed) {
		if !bytes.Contains(raw[max(0, len(raw)-relayedEnd):], []byte(id)) {
			continue
		}
		had, err := xmpp.ParseStanza(slices.Clone(raw))
		if err != nil || had.From != st.From {
			continue
		}
		// A card that forgot what it had synced gives a name twice: what is not the same message is not lost for that.
		if same, _ := had.Relayed(); same == id && bytes.Equal(asWritten(had), asWritten(st)) {
			return true
		}
	}
	return false
}

// asWritten is a message without what servers add on its way.
func asWritten(st *xmpp.Stanza) []byte {
	return st.WithoutChildren(func(c frame.Child) bool {
		return c.NS == nsDelay && c.Name == "delay" || c.NS == xmpp.NSRelayed && c.Name == "relayed"
	}).Raw
}
