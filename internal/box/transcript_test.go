package box

import (
	"log/slog"
	"testing"

	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/transcript"
	"pibox/internal/xmpp"
)

// Where features meet.
func TestTranscripts(t *testing.T) {
	transcript.RunFiles(t, "testdata/*.txt", func(t testing.TB, st *store.Store, domains []string, remote xmpp.Remote) transcript.Box {
		b, err := New(st, config.Default(), domains, "test", remote, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(); err != nil {
			t.Fatal(err)
		}
		return transcript.Box{Router: b.Router, Close: b.Stop}
	})
}
