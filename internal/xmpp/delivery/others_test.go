package delivery_test

import (
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"

	"mellium.im/xmpp/stanza"
)

// narrow takes only so many messages for other servers.
type narrow struct {
	xmpp.Remote
	left int
}

func (n *narrow) MayOwe(*xmpp.Stanza) error {
	if n.left == 0 {
		return xmpp.Errorf(stanza.ResourceConstraint, "too many")
	}
	return nil
}

func (n *narrow) Owe(*store.Tx, *xmpp.Stanza, uint64) { n.left-- }

// A member who writes to servers that can not be reached does not fill the card.
func TestFloodToOthers(t *testing.T) {
	transcript.Run(t, `
box montague.example
account romeo = romeo@montague.example
romeo/x connects
romeo/x sends <message to='juliet@capulet.example'><body>one</body></message>
capulet.example receives <message><body>one</body></message>
romeo/x sends <message to='juliet@capulet.example'><body>two</body></message>
romeo/x receives <message type='error'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>
archive romeo = to juliet@capulet.example: one
# what is not stored is not concerned
romeo/x sends <message type='chat' to='juliet@capulet.example'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>
capulet.example receives <message type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>
nobody receives anything
`, func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		return starter(delivery.Options{})(t, st, domains, &narrow{remote, 1})
	})
}
