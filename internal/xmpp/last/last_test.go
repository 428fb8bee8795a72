package last_test

import (
	"log/slog"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/last"
	"pibox/internal/xmpp/presence"
)

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(_ testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		last.Register(r)
		presence.Register(r, presence.Options{})
		return transcript.Box{Router: r}
	})
}
