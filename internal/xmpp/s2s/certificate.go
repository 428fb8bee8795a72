package s2s

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pibox/internal/xmpp"

	"golang.org/x/net/idna"
)

// otherName holds the names of a certificate that crypto/x509 does not read.
type otherName struct {
	srv  []string // RFC 4985: _service.domain
	xmpp []string // RFC 6120 §13.7.1.4: a JID
}

// verifyCertificate checks that a chain leads to a trusted root and that its certificate names the domain: the domain itself and not the
// host that SRV led to (RFC 6120 §13.7.2, RFC 6125 §6, RFC 7590 §3.4). roots nil are the system's.
func verifyCertificate(chain []*x509.Certificate, domain string, roots *x509.CertPool, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no certificate was shown")
	}
	leaf := *chain[0]
	other, err := otherNames(&leaf)
	if err != nil {
		return err
	}
	opt := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		// Public authorities stop issuing for client authentication: a server's certificate serves in both directions (RFC 6120 §13.7.1.2.1).
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		opt.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(opt)
	if err != nil {
		return err
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return matchName(n, ascii) }) {
		return nil
	}
	// Verify holds DNS names to the authorities' name constraints, but not these.
	if slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return !constrained(c[1:]) }) && other.name(domain, ascii) {
		return nil
	}
	return &wrongName{domain}
}

// wrongName: a certificate that is trusted proves something else.
type wrongName struct{ domain string }

func (e *wrongName) Error() string { return "the certificate is not for " + e.domain }

func (o otherName) name(domain, ascii string) bool {
	for _, n := range o.srv {
		if rest, ok := cutPrefixFold(n, "_xmpp-server."); ok && matchName(rest, ascii) {
			return true
		}
	}
	for _, n := range o.xmpp {
		if j, err := xmpp.ParseJID(n); err == nil && j == (xmpp.JID{Domain: domain}) {
			return true
		}
	}
	return false
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// matchName compares a name of a certificate with a domain in A-labels. A wildcard is the complete left-most label and stands for exactly
// one, below at least two (RFC 6125 §6.4.3, §7.2).
func matchName(name, domain string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if below, ok := strings.CutPrefix(name, "*."); ok {
		first, rest, found := strings.Cut(domain, ".")
		return found && first != "" && rest == below && strings.Contains(below, ".") && !strings.Contains(below, "*")
	}
	return name == domain
}

func constrained(authorities []*x509.Certificate) bool {
	return slices.ContainsFunc(authorities, func(c *x509.Certificate) bool {
		return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oid(2, 5, 29, 30)) })
	})
}

func oid(arcs ...int) asn1.ObjectIdentifier { return arcs }

// otherNames reads the otherName entries of the subject alternative names (RFC 5280 §4.2.1.6), and tells x509 that a critical extension which
// holds nothing else was handled.
func otherNames(leaf *x509.Certificate) (otherName, error) {
	var o otherName
	san := oid(2, 5, 29, 17)
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(san) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &names); err != nil {
			return o, fmt.Errorf("the names of the certificate can not be read: %w", err)
		}
		for _, n := range names {
			if n.Class == asn1.ClassContextSpecific && n.Tag == 0 {
				o.add(n.Bytes)
			}
		}
	}
	if len(o.srv)+len(o.xmpp) > 0 {
		rest := slices.Clone(leaf.UnhandledCriticalExtensions)
		leaf.UnhandledCriticalExtensions = slices.DeleteFunc(rest, san.Equal)
	}
	return o, nil
}

// add reads OtherName ::= SEQUENCE { type-id OBJECT IDENTIFIER, value [0] EXPLICIT ANY }. What it can not read is no name for us.
func (o *otherName) add(der []byte) {
	var id asn1.ObjectIdentifier
	var wrapped, value asn1.RawValue
	rest, err := asn1.Unmarshal(der, &id)
	if err == nil {
		_, err = asn1.Unmarshal(rest, &wrapped)
	}
	if err == nil {
		_, err = asn1.Unmarshal(wrapped.Bytes, &value)
	}
	switch {
	case err != nil:
	case id.Equal(oid(1, 3, 6, 1, 5, 5, 7, 8, 7)) && value.Tag == asn1.TagIA5String:
		o.srv = append(o.srv, string(value.Bytes))
	case id.Equal(oid(1, 3, 6, 1, 5, 5, 7, 8, 5)) && value.Tag == asn1.TagUTF8String:
		o.xmpp = append(o.xmpp, string(value.Bytes))
	}
}
