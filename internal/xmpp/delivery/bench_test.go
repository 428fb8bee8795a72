package delivery_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/delivery"
)

// BenchmarkUnstored: chat states from one member to another one.
func BenchmarkUnstored(b *testing.B) {
	st, err := store.Open(filepath.Join(b.TempDir(), "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	r := xmpp.NewRouter(st, slog.New(slog.DiscardHandler), []string{"montague.example"})
	delivery.Register(r, delivery.Options{})
	var sessions []*xmpp.Session
	for _, name := range []string{"romeo@montague.example", "juliet@montague.example"} {
		j := xmpp.MustJID(name)
		r.SetExists(j, true)
		sessions = append(sessions, r.Bind(j, "x", "x", sink{}, xmpp.ConflictReplace))
	}
	r.SetPresence(sessions[1], xmpp.Make([]byte("<presence/>")), 0)
	m := xmpp.Make([]byte("<message type='chat' id='a1' to='juliet@montague.example'><composing xmlns='http://jabber.org/protocol/chatstates'/>" +
		"<thread>e0ffe42b28561960c6b12b944a092794b9683a38</thread><no-store xmlns='urn:xmpp:hints'/></message>"))
	b.ReportAllocs()
	for b.Loop() {
		if se := r.FromSession(sessions[0], m.Element); se != nil {
			b.Fatal(se)
		}
	}
}

type sink struct{}

func (sink) Deliver(*xmpp.Stanza) bool { return true }

func (sink) Close(*xmpp.StreamError) {}
