// Package reach makes the box reachable under its names: so far, the TLS certificates of its own domains.
//
// A domain has the certificate that the configuration names, read again when its files change; every other one gets a leaf of the family's own
// certificate authority, which is made once and kept in the data folder. The authority is constrained to the box's domains: a stolen key can
// not be used to pretend to be anybody else to those who trust it.
//
// There is no goroutine and no timer: what is due (a changed file, a renewal) is done when a connection asks for the certificate, at most once a
// minute, or by Reload. A file that can not be used never takes away the certificate that is in use.
package reach

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"
)

// Files are a PEM certificate chain, leaf first, and the PEM file of its private key.
type Files struct{ Chain, Key string }

// Config of Open.
type Config struct {
	Dir     string           // for the authority and its leaves; made if need be. Nobody else works in it
	Domains []string         // of the box; the first is the main one
	Files   map[string]Files // certificates of one's own, by domain
	Log     *slog.Logger
	Now     func() time.Time // nil is time.Now
}

// checkEvery is how often files and lifetimes are looked at.
const checkEvery = time.Minute

// Certificates are those of the box's domains. Methods may be called from any goroutine.
type Certificates struct {
	config Config

	mu        sync.Mutex
	checked   time.Time
	authority *authority
	byName    map[string]*entry // by A-label
	main      *entry
}

// entry is one domain's certificate.
type entry struct {
	domain string // as configured
	name   string // A-label
	files  Files  // zero: of the family's authority
	stamp  stamp  // of the files when they were read
	cert   *tls.Certificate
}

// stamp tells whether files changed.
type stamp [2]struct {
	mod  time.Time
	size int64
}

// Open loads or makes all certificates. A configured one that can not be used is an error.
func Open(c Config) (*Certificates, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	cs := &Certificates{config: c, byName: map[string]*entry{}}
	for _, d := range c.Domains {
		name, err := idna.Lookup.ToASCII(strings.TrimSuffix(d, "."))
		if err != nil {
			return nil, fmt.Errorf("reach: the domain %q can not stand in a certificate: %w", d, err)
		}
		e := &entry{domain: d, name: strings.ToLower(name), files: c.Files[d]}
		cs.byName[e.name] = e
		if cs.main == nil {
			cs.main = e
		}
	}
	if cs.main == nil {
		return nil, errors.New("reach: there is no domain")
	}
	// A folder that a power cut takes away again takes the authority with it that devices trust.
	if err := errors.Join(os.MkdirAll(c.Dir, 0o700), syncFolder(filepath.Dir(c.Dir))); err != nil {
		return nil, fmt.Errorf("reach: %w", err)
	}
	removeUnfinished(c.Dir)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs, cs.update()
}

// TLSConfig serves by SNI; the main domain's certificate where a client names none, or one that is not ours.
func (cs *Certificates) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return cs.Certificate(hello.ServerName), nil
		},
	}
}

// Certificate is that of a domain, or the main domain's.
func (cs *Certificates) Certificate(domain string) *tls.Certificate {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil {
		name = domain
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if since := cs.config.Now().Sub(cs.checked); since >= checkEvery || since < 0 {
		if err := cs.update(); err != nil {
			cs.config.Log.Error("certificates could not be renewed; the old ones stay", "error", err)
		}
	}
	if e := cs.byName[strings.ToLower(name)]; e != nil {
		return e.cert
	}
	return cs.main.cert
}

// Reload reads changed files and renews what is due, now (SIGHUP). What can not be used leaves what is in use.
func (cs *Certificates) Reload() error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.update()
}

// AuthorityPEM is the family's certificate authority, for clients and peers that are to trust it; nil where every domain has a certificate of
// its own.
func (cs *Certificates) AuthorityPEM() []byte {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.authority == nil {
		return nil
	}
	return encodeCert(cs.authority.cert.Raw)
}

// Served is the certificate that a domain shows to its clients.
type Served struct {
	Domain      string
	Certificate *x509.Certificate
	Own         bool // issued by the family's authority
}

// Served are the certificates in use, in the order of the configured domains.
func (cs *Certificates) Served() (list []Served) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, d := range cs.config.Domains {
		for _, e := range cs.byName {
			if e.domain == d {
				list = append(list, Served{d, e.cert.Leaf, e.files == (Files{})})
			}
		}
	}
	return list
}

// Fingerprint is a certificate's SHA-256 as clients show it: pairs of upper-case hexadecimal digits, with colons.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// Expiry is the domain whose certificate ends first, and when; for the health of the box.
func (cs *Certificates) Expiry() (domain string, at time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, e := range cs.byName {
		if end := e.cert.Leaf.NotAfter; at.IsZero() || end.Before(at) {
			domain, at = e.domain, end
		}
	}
	return domain, at
}

func (cs *Certificates) update() error {
	cs.checked = cs.config.Now()
	var errs error
	var own []*entry
	for _, e := range cs.byName {
		if e.files == (Files{}) {
			own = append(own, e)
			continue
		}
		errs = errors.Join(errs, cs.load(e))
	}
	if len(own) > 0 {
		slices.SortFunc(own, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
		errs = errors.Join(errs, cs.issueAll(own))
	}
	return errs
}

// load reads a configured certificate if its files changed since.
func (cs *Certificates) load(e *entry) error {
	var now stamp
	for i, path := range []string{e.files.Chain, e.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("the certificate of %s: %w", e.domain, err)
		}
		now[i].mod, now[i].size = info.ModTime(), info.Size()
	}
	if e.cert != nil && now == e.stamp {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(e.files.Chain, e.files.Key)
	if err == nil {
		err = cert.Leaf.VerifyHostname(e.name)
	}
	if err != nil {
		return fmt.Errorf("the certificate of %s in %s: %w", e.domain, e.files.Chain, err)
	}
	if e.cert != nil {
		cs.config.Log.Info("certificate read again", "domain", e.domain, "valid until", cert.Leaf.NotAfter)
	}
	e.cert, e.stamp = &cert, now
	return nil
}

// issueAll gives domains leaves of the family's authority.
func (cs *Certificates) issueAll(list []*entry) error {
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.name
	}
	if cs.authority == nil || !cs.authority.covers(names) {
		ca, err := cs.openAuthority(names)
		if err != nil {
			return err
		}
		cs.authority = ca
	}
	var errs error
	for _, e := range list {
		errs = errors.Join(errs, cs.leaf(e))
	}
	return errs
}

// leaf loads a domain's leaf, or makes it where there is none, it is due, or it is not the authority's.
func (cs *Certificates) leaf(e *entry) error {
	if e.cert != nil && cs.fresh(e) {
		return nil
	}
	path := filepath.Join(cs.config.Dir, e.name+".pem")
	if e.cert == nil {
		if cert, err := tls.LoadX509KeyPair(path, path); err == nil {
			e.cert = &cert
		}
		if e.cert != nil && cs.fresh(e) {
			return nil
		}
	}
	cert, pem, err := cs.authority.issue(e.name, cs.clock(), e.cert)
	if err == nil {
		err = writeFile(path, pem, secret)
	}
	if err != nil {
		return fmt.Errorf("making a certificate for %s: %w", e.domain, err)
	}
	e.cert = cert
	cs.config.Log.Info("certificate made", "domain", e.domain, "valid until", cert.Leaf.NotAfter)
	return nil
}

// fresh tells whether a leaf is the authority's, for the name, and not due for renewal.
func (cs *Certificates) fresh(e *entry) bool {
	l, now := e.cert.Leaf, cs.clock()
	return l.VerifyHostname(e.name) == nil && l.CheckSignatureFrom(cs.authority.cert) == nil &&
		!now.Before(l.NotBefore) && now.Before(l.NotAfter.Add(-renewBefore))
}

// clock is the time, but never before this program can have existed: a box without a battery starts in 1970.
func (cs *Certificates) clock() time.Time {
	now := cs.config.Now()
	if epoch := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC); now.Before(epoch) {
		return epoch
	}
	return now
}

// Pool is AuthorityPEM as a pool of trusted authorities, for the box's own connections to itself and for tests.
func (cs *Certificates) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(cs.AuthorityPEM())
	return p
}
