package s2s

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// words say why no connection could be made, for a person of this box, who may be able to mend it.
func (f *failure) words() string {
	for _, explain := range []func(error) string{wordsOfDNS, wordsOfCertificate, wordsOfPeer, wordsOfNetwork} {
		if text := explain(f.err); text != "" {
			return text
		}
	}
	return f.err.Error()
}

func wordsOfDNS(err error) string {
	var le *lookupError
	switch {
	case !errors.As(err, &le):
		return ""
	case le.notFound:
		return "its name is not in the DNS, and no s2s.route in the configuration leads there"
	}
	return "its name could not be looked up in the DNS"
}

func wordsOfCertificate(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name *wrongName
	switch {
	case errors.As(err, &unknown):
		return "this box does not know who issued its certificate (s2s.trust in the configuration)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is not valid at this time (has it expired, is the clock of this box right?)"
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error()
	case errors.As(err, &name):
		return "its certificate is not for " + name.domain
	}
	return ""
}

// refuses: its owner can mend that, or ours by another certificate.
const refuses = "its server does not trust the certificate of this box"

// wordsOfPeer tell of a server that answered.
func wordsOfPeer(err error) string {
	var pe *peerError
	var sf *saslFailure
	var de *dialbackError
	var se *xmpp.StreamError
	var fe *frame.Error
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &pe) && (pe.condition == "host-unknown" || pe.condition == "host-gone"):
		return "the server at its address does not serve that domain"
	case errors.As(err, &pe):
		return "its server ended the stream (" + pe.condition + ")"
	case errors.Is(err, errNoExternal):
		return refuses
	case errors.As(err, &sf):
		return refuses + " (" + sf.condition + ")"
	case errors.As(err, &de):
		return refuses + ", nor dialback (" + de.condition + ")"
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return "its server refuses to agree on TLS"
	case errors.As(err, &record):
		return "what answers at its address does not speak TLS"
	case errors.As(err, &se), errors.As(err, &fe):
		return "its server does not keep to the protocol"
	}
	return ""
}

func wordsOfNetwork(err error) string {
	at := "at its address"
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" && op.Addr != nil {
		at = "at " + op.Addr.String()
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no server listens " + at
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to the machine " + at
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "nothing answers " + at
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "its server broke the connection off"
	}
	return ""
}
