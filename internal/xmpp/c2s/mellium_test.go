package c2s

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"mellium.im/sasl"
	melliumxmpp "mellium.im/xmpp"
	"mellium.im/xmpp/jid"
)

// mellium's client over TCP: STARTTLS and direct TLS, every mechanism, with and without a resource of its own choice.
func TestMellium(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b := newBox(t, t.TempDir(), log, Options{})
	t.Cleanup(func() { b.stop(t) })
	starttls, direct := b.listen(t, false), b.listen(t, true)
	for _, m := range []sasl.Mechanism{sasl.ScramSha1, sasl.ScramSha256, sasl.ScramSha1Plus, sasl.ScramSha256Plus} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, isDirect := range []bool{false, true} {
				name := m.Name + "/" + tls.VersionName(version)
				if isDirect {
					name += "/direct"
				}
				t.Run(name, func(t *testing.T) {
					config := &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool(), MaxVersion: version}
					address := starttls
					if isDirect {
						address = direct
					}
					s := melliumLogin(t, address, config, isDirect, m, "romeo@montague.example/orchard", "romeo")
					// mellium v0.23.0 asks for an empty resource, whatever it was told.
					if got := s.LocalAddr(); got.Bare().String() != "romeo@montague.example" || got.Resourcepart() == "" {
						t.Errorf("bound %s", got)
					}
					if err := s.Close(); err != nil {
						t.Errorf("closing: %v", err)
					}
					if _, err := io.Copy(io.Discard, s.Conn()); err != nil && !errors.Is(err, net.ErrClosed) {
						t.Errorf("after closing: %v", err)
					}
				})
			}
		}
	}
}

func melliumLogin(t *testing.T, address string, config *tls.Config, direct bool, m sasl.Mechanism, account, password string) *melliumxmpp.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	features := []melliumxmpp.StreamFeature{melliumxmpp.SASL("", password, m), melliumxmpp.BindResource()}
	state := melliumxmpp.SessionState(0)
	if direct {
		config.NextProtos = []string{"xmpp-client"}
		nc = tls.Client(nc, config)
		state = melliumxmpp.Secure
	} else {
		features = append(features, melliumxmpp.StartTLS(config))
	}
	j := jid.MustParse(account)
	s, err := melliumxmpp.NewSession(ctx, j.Domain(), j, nc, state, melliumxmpp.NewNegotiator(func(*melliumxmpp.Session, *melliumxmpp.StreamConfig) melliumxmpp.StreamConfig {
		return melliumxmpp.StreamConfig{Features: features}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
