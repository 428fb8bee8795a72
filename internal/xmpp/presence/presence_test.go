package presence_test

import (
	"log/slog"
	"testing"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/roster"
)

func start(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
	r.SetRemote(remote)
	p := presence.Register(r, presence.Options{MaxDirected: 5, MaxBytes: 1000})
	roster.Register(r, p, roster.Options{})
	return transcript.Box{Router: r}
}

func TestTranscripts(t *testing.T) { transcript.RunFiles(t, "testdata/*.txt", start) }
