package disco_test

import (
	"log/slog"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/blocking"
	"pibox/internal/xmpp/delivery"
	"pibox/internal/xmpp/disco"
	"pibox/internal/xmpp/pep"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

// TestPEP is about what PEP makes of the capabilities that are learned here.
func TestPEP(t *testing.T) {
	transcript.RunFiles(t, "testdata/pep/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		p := presence.Register(r, presence.Options{})
		roster.Register(r, p, roster.Options{})
		b := blocking.Register(r, p, blocking.Options{})
		if err := b.Load(); err != nil {
			t.Fatal(err)
		}
		delivery.Register(r, delivery.Options{})
		d := disco.Register(r, disco.Options{})
		d.SetNodes(pep.Register(r, d.Caps, b, pep.Options{}))
		return transcript.Box{Router: r}
	})
}
