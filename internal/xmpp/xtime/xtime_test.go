package xtime_test

import (
	"log/slog"
	"testing"
	"time"

	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/xtime"
)

func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(_ testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), domains)
		r.SetRemote(remote)
		xtime.Register(r, time.FixedZone("", -6*3600))
		return transcript.Box{Router: r}
	})
}
