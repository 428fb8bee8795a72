package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeCertificate puts NAME.pem and NAME.key into dir.
func writeCertificate(t *testing.T, dir, name, domain string, from, to time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{domain}, NotBefore: from, NotAfter: to}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificates(t *testing.T) {
	dir, day := t.TempDir(), 24*time.Hour
	writeCertificate(t, dir, "good", "xn--mnchen-3ya.example", testTime().Add(-day), testTime().Add(day))
	writeCertificate(t, dir, "old", "a.example", testTime().Add(-2*day), testTime().Add(-day))
	writeCertificate(t, dir, "future", "a.example", testTime().Add(day), testTime().Add(2*day))
	write(t, filepath.Join(dir, "empty.pem"), "")
	write(t, filepath.Join(dir, "broken.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for _, tt := range []struct{ name, file, want string }{
		{"good", certificate("münchen.example", "good.pem", "good.key"), ""},
		{"expired", certificate("a.example", "old.pem", "old.key"), "p:3: warning: tls.certificate[0].chain: the certificate expired on 2026-11-21"},
		{"not yet", certificate("a.example", "future.pem", "future.key"), "p:3: warning: tls.certificate[0].chain: the certificate is valid from 2026-11-23 only; is the clock of this machine right?"},
		{"wrong domain", certificate("b.example", "old.pem", "old.key"), "p:3: tls.certificate[0].chain: the certificate in DIR/old.pem is not for b.example: x509: certificate is valid for a.example, not b.example"},
		{"wrong key", certificate("a.example", "old.pem", "good.key"), "p:1: tls.certificate[0]: certificate and key can not be used: tls: private key does not match public key"},
		{"no files", certificate("a.example", "no.pem", "sub/no.key"), "p:3: tls.certificate[0].chain: there is no file DIR/no.pem\np:4: tls.certificate[0].key: there is no file DIR/sub/no.key"},
		{"folder", certificate("a.example", ".", "old.key"), "p:3: tls.certificate[0].chain: DIR is no file"},
		{"empty name", certificate("a.example", "", "old.key"), "p:3: tls.certificate[0].chain: the name of a file is missing"},
		{
			"twice and not ours", "domains = [\"b.example\"]\n" + certificate("a.example", "old.pem", "old.key") + certificate("a.example", "old.pem", "old.key"),
			`p:3: tls.certificate[0].domain: "a.example" is not among domains
p:4: warning: tls.certificate[0].chain: the certificate expired on 2026-11-21
p:7: tls.certificate[1].domain: "a.example" has a certificate already, on line 3
p:7: tls.certificate[1].domain: "a.example" is not among domains
p:8: warning: tls.certificate[1].chain: the certificate expired on 2026-11-21`,
		},
		{
			"trust", "[s2s]\ntrust = [\n\"old.pem\",\n\"empty.pem\",\n\"broken.pem\",\n\"no.pem\"]",
			`p:4: s2s.trust[1]: DIR/empty.pem holds no PEM certificate
p:5: s2s.trust[2]: DIR/broken.pem: certificate 1 can not be read: x509: malformed certificate
p:6: s2s.trust[3]: there is no file DIR/no.pem`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := Parse(filepath.Join(dir, "p"), tt.file, testTime())
			got := strings.ReplaceAll(strings.ReplaceAll(problems.Error(), dir+"/p:", "p:"), dir, "DIR")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if onlyWarnings := !strings.Contains(strings.ReplaceAll(got, "warning: ", ""), "p:") || tt.name == "expired" || tt.name == "not yet"; onlyWarnings != (problems.Err() == nil) {
				t.Errorf("Err() = %v", problems.Err())
			}
		})
	}
}

func certificate(domain, chain, key string) string {
	return fmt.Sprintf("[[tls.certificate]]\ndomain = %q\nchain = %q\nkey = %q\n", domain, chain, key)
}
