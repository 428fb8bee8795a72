package s2s

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"mellium.im/xmpp/stanza"
)

// Whoever is told that a server can not be reached is told why, in words.
func TestWords(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5269}, Err: err}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{lookupFailure(&lookupError{name: "capulet.example.", notFound: true}), "not in the DNS"},
		{lookupFailure(&lookupError{name: "capulet.example.", err: errors.New("SERVFAIL")}), "could not be looked up"},
		{dialFailure(dial(syscall.ECONNREFUSED)), "no server listens at 192.0.2.7:5269"},
		{dialFailure(errors.Join(dial(syscall.EHOSTUNREACH))), "no way to the machine at 192.0.2.7:5269"},
		{dialFailure(dial(os.ErrDeadlineExceeded)), "nothing answers at 192.0.2.7:5269"},
		{tlsFailure(x509.UnknownAuthorityError{}), "does not know who issued its certificate (s2s.trust"},
		{tlsFailure(&failure{stanza.RemoteServerTimeout, true, x509.CertificateInvalidError{Reason: x509.Expired}}), "not valid at this time"},
		{tlsFailure(&wrongName{"capulet.example"}), "its certificate is not for capulet.example"},
		{tlsFailure(&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}), "refuses to agree on TLS"},
		{negotiationFailure(errNoExternal), "does not trust the certificate of this box"},
		{negotiationFailure(&saslFailure{condition: "not-authorized"}), "does not trust the certificate of this box (not-authorized)"},
		{&failure{stanza.RemoteServerTimeout, true, &dialbackError{"not-authorized"}}, "does not trust the certificate of this box, nor dialback (not-authorized)"},
		{negotiationFailure(&peerError{condition: "host-unknown"}), "does not serve that domain"},
		{negotiationFailure(fmt.Errorf("reading: %w", io.EOF)), "broke the connection off"},
		{&failure{stanza.RemoteServerTimeout, true, errors.New("the server offers no TLS")}, "the server offers no TLS"},
	} {
		e := asFailure(tt.err).stanzaError("capulet.example")
		if !strings.Contains(e.Text, "capulet.example") || !strings.Contains(e.Text, tt.want) {
			t.Errorf("%v: %q, not %q", tt.err, e.Text, tt.want)
		}
	}
}
