package sasl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	mellium "mellium.im/sasl"
)

// tlsPair shakes hands over a pipe.
func tlsPair(t *testing.T, version uint16, change ...func(*tls.Config)) (client, server tls.ConnectionState, leaf *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	a, b := net.Pipe()
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	config := &tls.Config{RootCAs: roots, ServerName: "example.com", MaxVersion: version}
	for _, f := range change {
		f(config)
	}
	clientEnd := tls.Client(a, config)
	serverEnd := tls.Server(b, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true, // the pipe has no buffer for a ticket nobody reads
	})
	done := make(chan error, 1)
	go func() { done <- serverEnd.Handshake() }()
	if err := clientEnd.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return clientEnd.ConnectionState(), serverEnd.ConnectionState(), leaf
}

func melliumMechanism(t *testing.T, name string) mellium.Mechanism {
	t.Helper()
	for _, m := range []mellium.Mechanism{mellium.ScramSha1, mellium.ScramSha256, mellium.ScramSha1Plus, mellium.ScramSha256Plus} {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("mellium has no %s", name)
	return mellium.Mechanism{}
}

// drive plays mellium's client against a Server and gives both sides' last errors.
func drive(c *mellium.Negotiator, s *Server) (clientErr, serverErr error) {
	_, message, err := c.Step(nil)
	for err == nil {
		var reply Reply
		if reply, serverErr = s.Next(base64.StdEncoding.EncodeToString(message)); serverErr != nil {
			return nil, serverErr
		}
		var challenge []byte
		if challenge, err = base64.StdEncoding.DecodeString(reply.Text); err != nil {
			return err, nil
		}
		if _, message, err = c.Step(challenge); reply.Done {
			return err, nil
		}
	}
	return err, nil
}

// mellium.im/sasl as a client, over real TLS. Its -PLUS binds by tls-exporter on TLS 1.3 and by tls-unique on 1.2, whatever XEP-0440
// lists, and it sends "p" only if it is told of the server's mechanisms.
func TestMellium(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		clientState, serverState, leaf := tlsPair(t, version)
		bindings := Bindings(serverState, leaf)
		offered := Mechanisms(len(bindings) > 0)
		for _, name := range offered {
			for _, tc := range []struct {
				user, password, identity string
				want                     Condition
			}{
				{"juliet", "r0m30myr0m30", "", ""},
				{"juliet", "r0m30myr0m30", "juliet@example.com", ""},
				{"juliet", "wrong", "", NotAuthorized},
				{"tybalt", "r0m30myr0m30", "", NotAuthorized},
				{"a=b,c", "r0m30myr0m30", "", NotAuthorized},
				{"juliet", "r0m30myr0m30", "romeo@example.com", InvalidAuthzid},
			} {
				t.Run(tls.VersionName(version)+"/"+name+"/"+tc.user+"/"+tc.password+"/"+tc.identity, func(t *testing.T) {
					s := mustServer(t, name, testConfig(t, bindings...))
					clientErr, serverErr := drive(mellium.NewClient(melliumMechanism(t, name),
						mellium.Credentials(func() (username, password, identity []byte) {
							return []byte(tc.user), []byte(tc.password), []byte(tc.identity)
						}),
						mellium.TLSState(clientState),
						mellium.RemoteMechanisms(offered...),
					), s)
					if clientErr != nil {
						t.Fatalf("mellium: %v", clientErr)
					}
					if tc.want != "" {
						wantFailure(t, serverErr, tc.want)
						return
					}
					if serverErr != nil || s.Account() != "juliet" {
						t.Fatalf("account %q, %v", s.Account(), serverErr)
					}
				})
			}
		}
	}
}

// A man in the middle has a TLS connection with each side and relays the SASL messages.
func TestManInTheMiddle(t *testing.T) {
	victim, _, _ := tlsPair(t, tls.VersionTLS13)
	_, server, leaf := tlsPair(t, tls.VersionTLS13)
	s := mustServer(t, ScramSHA256Plus, testConfig(t, Bindings(server, leaf)...))
	_, err := drive(mellium.NewClient(mellium.ScramSha256Plus,
		mellium.Credentials(func() (username, password, identity []byte) { return []byte("juliet"), []byte("r0m30myr0m30"), nil }),
		mellium.TLSState(victim),
		mellium.RemoteMechanisms(Mechanisms(true)...),
	), s)
	f := wantFailure(t, err, NotAuthorized)
	if f.Guess || !strings.Contains(f.Detail, "channel binding") {
		t.Errorf("%+v", f)
	}
}

func TestBindings(t *testing.T) {
	types := func(bindings []Binding) string {
		var names []string
		for _, b := range bindings {
			names = append(names, b.Type)
		}
		return strings.Join(names, " ")
	}
	_, state13, leaf := tlsPair(t, tls.VersionTLS13)
	if got := types(Bindings(state13, leaf)); got != "tls-exporter tls-server-end-point" {
		t.Errorf("TLS 1.3: %s", got)
	}
	if got := types(Bindings(state13, nil)); got != "tls-exporter" {
		t.Errorf("TLS 1.3 without the certificate: %s", got)
	}
	client12, state12, leaf := tlsPair(t, tls.VersionTLS12)
	bindings := Bindings(state12, leaf)
	if got := types(bindings); got != "tls-exporter tls-unique tls-server-end-point" {
		t.Errorf("TLS 1.2 with extended master secret: %s", got)
	}
	for i, b := range Bindings(client12, leaf) {
		if string(b.Data) != string(bindings[i].Data) {
			t.Errorf("%s differs between client and server", b.Type)
		}
	}
	if got := Bindings(tls.ConnectionState{}, leaf); got != nil {
		t.Errorf("without TLS: %s", types(got))
	}
	ed25519 := *leaf
	ed25519.SignatureAlgorithm = x509.PureEd25519
	if got := types(Bindings(state13, &ed25519)); got != "tls-exporter" {
		t.Errorf("Ed25519 has no tls-server-end-point: %s", got)
	}
}

// Where crypto/tls refuses to export keying material, for want of the extended master secret or, as here, because the connection may
// be renegotiated, nothing is offered: tls-unique and tls-server-end-point neither.
func TestNoBindingWithoutExporter(t *testing.T) {
	state, _, leaf := tlsPair(t, tls.VersionTLS12, func(c *tls.Config) { c.Renegotiation = tls.RenegotiateOnceAsClient })
	if _, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err == nil {
		t.Fatal("this connection exports keying material")
	}
	if got := Bindings(state, leaf); got != nil {
		t.Errorf("got %v", got)
	}
}
