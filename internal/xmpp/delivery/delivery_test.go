package delivery_test

import (
	"log/slog"
	"strings"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", starter(delivery.Options{}))
}

// A stranger who sends large messages to somebody who is offline does not fill the card.
func TestFlood(t *testing.T) {
	big := "<message to='juliet@montague.example'><body>" + strings.Repeat("x", 1000) + "</body></message>"
	transcript.Run(t, `
box montague.example
account romeo = romeo@montague.example
account juliet = juliet@montague.example
romeo/x connects
romeo/x sends `+big+big+`
nobody receives anything
romeo/x sends `+big+`
romeo/x receives <message type='error'><error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>
offline juliet = 2
# who is there gets what comes, also when more than that has not been acknowledged
juliet/phone connects acknowledging
juliet/phone sends <presence/>
juliet/phone forgets
romeo/x sends `+big+`
juliet/phone receives <message><body>*</body><etc/></message>
nobody receives anything
juliet/phone acknowledges
offline juliet = 0
`, starter(delivery.Options{MaxBytes: 3000}))
}

func starter(opt delivery.Options) transcript.Start {
	return func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		delivery.Register(r, opt)
		// Presence alone matters here; who else sees it is the presence feature's.
		r.Handle(xmpp.Key{Class: xmpp.Broadcast, Kind: xmpp.Presence, Type: "*"}, func(rq *xmpp.Request) error {
			if rq.Type == "unavailable" {
				r.SetPresence(rq.Session, nil, 0)
				return nil
			}
			prio := int8(0)
			if rq.Node().ChildText(xmpp.NSClient, "priority") == "-1" {
				prio = -1
			}
			r.SetPresence(rq.Session, rq.Stanza, prio)
			return nil
		})
		return transcript.Box{Router: r}
	}
}
