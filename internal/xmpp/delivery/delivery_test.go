package delivery_test

import (
	"log/slog"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		delivery.Register(r, delivery.Options{})
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
	})
}
