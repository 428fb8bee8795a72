package s2s

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"
)

// san gives a certificate names of any kind: "dns:x", "srv:_xmpp-server.x", "xmpp:x".
func san(critical bool, names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames = nil
		var list []asn1.RawValue
		for _, n := range names {
			kind, value, _ := strings.Cut(n, ":")
			switch kind {
			case "dns":
				list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(value)})
			case "srv":
				list = append(list, other(oid(1, 3, 6, 1, 5, 5, 7, 8, 7), asn1.TagIA5String, value))
			case "xmpp":
				list = append(list, other(oid(1, 3, 6, 1, 5, 5, 7, 8, 5), asn1.TagUTF8String, value))
			case "none":
				list = append(list, other(oid(1, 2, 3), asn1.TagUTF8String, value))
			}
		}
		der, err := asn1.Marshal(list)
		if err != nil {
			panic(err)
		}
		c.ExtraExtensions = []pkix.Extension{{Id: oid(2, 5, 29, 17), Critical: critical, Value: der}}
	}
}

func other(id asn1.ObjectIdentifier, tag int, value string) asn1.RawValue {
	idDER, _ := asn1.Marshal(id)
	valueDER, _ := asn1.Marshal(asn1.RawValue{Tag: tag, Bytes: []byte(value)})
	wrapped, _ := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: valueDER})
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(idDER, wrapped...)}
}

func TestCertificateNames(t *testing.T) {
	ca := newAuthority(t)
	for _, c := range []struct {
		names  []string
		domain string
		ok     bool
	}{
		{[]string{"dns:capulet.example"}, "capulet.example", true},
		{[]string{"dns:CAPULET.example"}, "capulet.example", true},
		{[]string{"dns:verona.example", "dns:capulet.example"}, "capulet.example", true},
		{[]string{"dns:verona.example"}, "capulet.example", false},
		{[]string{"dns:example"}, "capulet.example", false},
		{[]string{"dns:capulet.example"}, "chat.capulet.example", false},
		{[]string{"dns:chat.capulet.example"}, "capulet.example", false},
		{[]string{"dns:*.capulet.example"}, "chat.capulet.example", true},
		{[]string{"dns:*.capulet.example"}, "capulet.example", false},
		{[]string{"dns:*.capulet.example"}, "a.b.capulet.example", false},
		{[]string{"dns:*.example"}, "capulet.example", false}, // one label below the wildcard is not enough
		{[]string{"dns:*"}, "example", false},
		{[]string{"dns:c*.capulet.example"}, "chat.capulet.example", false},
		{[]string{"dns:chat.*.example"}, "chat.capulet.example", false},
		{[]string{"dns:xn--mnchen-3ya.example"}, "münchen.example", true},
		{[]string{"srv:_xmpp-server.capulet.example"}, "capulet.example", true},
		{[]string{"srv:_XMPP-Server.capulet.example"}, "capulet.example", true},
		{[]string{"srv:_xmpp-client.capulet.example"}, "capulet.example", false},
		{[]string{"srv:capulet.example"}, "capulet.example", false},
		{[]string{"srv:_xmpp-server.*.capulet.example"}, "chat.capulet.example", true},
		{[]string{"xmpp:capulet.example"}, "capulet.example", true},
		{[]string{"xmpp:münchen.example"}, "münchen.example", true},
		{[]string{"xmpp:juliet@capulet.example"}, "capulet.example", false},
		{[]string{"xmpp:*.capulet.example"}, "chat.capulet.example", false},
		{[]string{"none:capulet.example"}, "capulet.example", false},
		{[]string{"dns:verona.example", "xmpp:capulet.example"}, "capulet.example", true},
	} {
		for _, critical := range []bool{false, true} {
			t.Run(fmt.Sprint(c.names, " for ", c.domain, " critical ", critical), func(t *testing.T) {
				cert := ca.issue(t, "", san(critical, c.names...)).Leaf
				err := verifyCertificate([]*x509.Certificate{cert}, c.domain, ca.pool(), time.Now())
				if (err == nil) != c.ok {
					t.Error(err)
				}
			})
		}
	}
}

func TestCertificateChains(t *testing.T) {
	ca := newAuthority(t)
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	for name, c := range map[string]struct {
		cert *x509.Certificate
		ok   bool
	}{
		"for servers alone":        {ca.issue(t, "capulet.example", usage(x509.ExtKeyUsageServerAuth)).Leaf, true},
		"for clients alone":        {ca.issue(t, "capulet.example", usage(x509.ExtKeyUsageClientAuth)).Leaf, true},
		"for any use":              {ca.issue(t, "capulet.example", usage()).Leaf, true},
		"for mail":                 {ca.issue(t, "capulet.example", usage(x509.ExtKeyUsageEmailProtection)).Leaf, false},
		"expired":                  {ca.issue(t, "capulet.example", expired).Leaf, false},
		"of another authority":     {newAuthority(t).issue(t, "capulet.example").Leaf, false},
		"self-signed":              {selfSigned(t, "capulet.example").Leaf, false},
		"with a common name alone": {ca.issue(t, "", func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "capulet.example" }).Leaf, false},
		"with an unknown extension": {ca.issue(t, "capulet.example", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: oid(1, 2, 3), Critical: true, Value: []byte{5, 0}}}
		}).Leaf, false},
	} {
		err := verifyCertificate([]*x509.Certificate{c.cert}, "capulet.example", ca.pool(), time.Now())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verifyCertificate(nil, "capulet.example", ca.pool(), time.Now()); err == nil {
		t.Error("no certificate proves nothing")
	}
	pinned := selfSigned(t, "capulet.example").Leaf
	pool := x509.NewCertPool()
	pool.AddCert(pinned)
	if err := verifyCertificate([]*x509.Certificate{pinned}, "capulet.example", pool, time.Now()); err != nil {
		t.Errorf("one that is trusted itself: %v", err)
	}
}

// TestNameConstraints: an authority for some domains can not vouch for others by the names that crypto/x509 does not look at.
func TestNameConstraints(t *testing.T) {
	root := newAuthority(t)
	key := newKey(t)
	middle := &authority{key: key, cert: sign(t, &x509.Certificate{
		SerialNumber: root.cert.SerialNumber, Subject: pkix.Name{CommonName: "middle"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: root.cert.NotBefore, NotAfter: root.cert.NotAfter, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomains: []string{"verona.example"}, PermittedDNSDomainsCritical: true,
	}, root.cert, key, root.key)}
	for _, c := range []struct {
		names  []string
		domain string
		ok     bool
	}{
		{[]string{"dns:verona.example"}, "verona.example", true},
		{[]string{"dns:capulet.example"}, "capulet.example", false},
		{[]string{"dns:verona.example", "xmpp:capulet.example"}, "capulet.example", false},
		{[]string{"dns:verona.example", "srv:_xmpp-server.capulet.example"}, "capulet.example", false},
		{[]string{"xmpp:capulet.example"}, "capulet.example", false},
	} {
		leaf := middle.issue(t, "", san(false, c.names...)).Leaf
		err := verifyCertificate([]*x509.Certificate{leaf, middle.cert}, c.domain, root.pool(), time.Now())
		if (err == nil) != c.ok {
			t.Errorf("%v for %s: %v", c.names, c.domain, err)
		}
	}
}
