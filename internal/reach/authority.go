package reach

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	authorityCert = "authority.pem"
	authorityKey  = "authority.key"

	authorityLife = 20 * 365 * 24 * time.Hour
	leafLife      = 800 * 24 * time.Hour // Apple's systems take at most 825 days, also from an authority one added oneself
	renewBefore   = 60 * 24 * time.Hour
	backdate      = 24 * time.Hour // for clocks that are behind
)

// authority is the family's.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// covers tells whether the authority may vouch for all names.
func (a *authority) covers(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		return !slices.ContainsFunc(a.cert.PermittedDNSDomains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
	})
}

// openAuthority reads the authority, or makes it. One that does not cover the names is made anew with the same key: what trusts the old one goes
// on trusting the domains that it had, and has to be told of the new ones.
func (cs *Certificates) openAuthority(names []string) (*authority, error) {
	a, err := cs.readOrMake(names)
	if err != nil {
		return nil, fmt.Errorf("the family's certificate authority: %w", err)
	}
	return a, nil
}

func (cs *Certificates) readOrMake(names []string) (*authority, error) {
	certPath, keyPath := filepath.Join(cs.config.Dir, authorityCert), filepath.Join(cs.config.Dir, authorityKey)
	old, err := readCert(certPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	key, err := readKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) && old == nil {
		key, err = makeKey(keyPath)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyPath, err)
	}
	if old != nil {
		if !key.PublicKey.Equal(old.PublicKey) {
			return nil, fmt.Errorf("%s is not of the key in %s; restore both from one backup, or remove both and have every device trust the new one",
				certPath, keyPath)
		}
		a := &authority{old, key}
		if a.covers(names) {
			return a, os.Chmod(certPath, public) // earlier versions made it for the box alone
		}
		names = append(names, old.PermittedDNSDomains...)
		cs.config.Log.Warn("the family's certificate authority is made anew for more domains: devices that trust it have to be given the new file", "file", certPath)
	}
	cert, err := cs.makeAuthority(key, names)
	if err != nil {
		return nil, err
	}
	return &authority{cert, key}, writeFile(certPath, encodeCert(cert.Raw), public)
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, raw, secret)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("no ECDSA key")
	}
	return key, nil
}

func (cs *Certificates) makeAuthority(key *ecdsa.PrivateKey, names []string) (*x509.Certificate, error) {
	slices.Sort(names)
	now := cs.clock()
	template := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "Family of " + cs.main.name, Organization: []string{"pibox"}},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(authorityLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         slices.Compact(names),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// issue makes a leaf, as PEM with its key behind it. A renewal keeps the key, so that a pin on it holds. It is for both sides of a connection:
// with other servers the box is the client, too (RFC 6120 §13.7.1).
func (a *authority) issue(name string, now time.Time, old *tls.Certificate) (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if old != nil {
		if k, ok := old.PrivateKey.(*ecdsa.PrivateKey); ok {
			key = k
		}
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: commonName(name)},
		DNSNames:     []string{name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if template.NotBefore.Before(a.cert.NotBefore) {
		template.NotBefore = a.cert.NotBefore
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		template.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	// The authority goes along: who trusts it does not need it, who asks a person whether to trust can show it.
	pair := slices.Concat(encodeCert(der), encodeCert(a.cert.Raw), keyPEM)
	cert, err := tls.X509KeyPair(pair, pair)
	return &cert, pair, err
}

// commonName is for people only, and has a limit of its own (RFC 5280, ub-common-name).
func commonName(name string) string { return name[:min(len(name), 64)] }

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return n.Add(n, big.NewInt(1))
}

func readCert(path string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// The modes of files: a certificate is for everybody who gets to the folder, a key for the box alone.
const (
	public fs.FileMode = 0o644
	secret fs.FileMode = 0o600
)

// writeFile replaces a file as a whole, durably. What is there already is left alone, but for its mode.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return os.Chmod(path, mode)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), unfinished+"*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// unfinished begins the names of files that are being written; what follows are digits.
const unfinished = ".new-"

// removeUnfinished removes the files, keys among them, that a power cut kept from getting their names.
func removeUnfinished(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unfinished+"[0-9]*"))
	for _, path := range left {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			_ = os.Remove(path)
		}
	}
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
