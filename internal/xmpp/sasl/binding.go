package sasl

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
)

// The channel binding types that are known here, as XEP-0440 lists them and the gs2 header names them.
const (
	TLSExporter       = "tls-exporter"         // RFC 9266
	TLSUnique         = "tls-unique"           // RFC 5929 §3; TLS 1.2 only
	TLSServerEndPoint = "tls-server-end-point" // RFC 5929 §4
)

// A Binding is one channel binding that a connection offers.
type Binding struct {
	Type string
	Data []byte
}

// Bindings are the channel bindings to announce (XEP-0440) and accept on a TLS connection, strongest first. None: the -PLUS
// mechanisms must not be offered.
//
// leaf is the certificate this server presented on the connection; without it (nil) tls-server-end-point, which XEP-0440 §3 asks of
// every server, is left out.
//
// Nothing is offered below TLS 1.3 without the extended master secret (RFC 9266 §4.2, RFC 7627): two connections could share
// their secrets there. crypto/tls tells that case by refusing to export keying material.
func Bindings(state tls.ConnectionState, leaf *x509.Certificate) []Binding {
	if !state.HandshakeComplete {
		return nil // no TLS, where ExportKeyingMaterial panics
	}
	// RFC 9266 §2: a context of zero length, which TLS 1.2 tells from none (RFC 5705 §4).
	exported, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	if err != nil || len(exported) == 0 {
		return nil
	}
	bindings := []Binding{{TLSExporter, exported}}
	if state.Version == tls.VersionTLS12 && len(state.TLSUnique) > 0 {
		bindings = append(bindings, Binding{TLSUnique, state.TLSUnique})
	}
	if data := endPoint(leaf); data != nil {
		bindings = append(bindings, Binding{TLSServerEndPoint, data})
	}
	return bindings
}

// endPoint: RFC 5929 §4.1. It is undefined (nil) for a signature algorithm without one hash function, as Ed25519.
func endPoint(leaf *x509.Certificate) []byte {
	if leaf == nil {
		return nil
	}
	var hash crypto.Hash
	switch leaf.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(leaf.Raw)
	return h.Sum(nil)
}
