package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"pibox/internal/testbox"
)

// prosodyServer is Debian's, with the modules that internal/interop gives it and its default storage.
type prosodyServer struct {
	dir, host string
	roots     *x509.CertPool
	cmd       *exec.Cmd
	done      chan struct{}
}

const prosodyConfig = `
run_as_root = true -- the machine that runs this is a container or a guest of CI
daemonize = false
data_path = "%[1]s/data"
pidfile = "%[1]s/prosody.pid"
log = { info = "%[1]s/log"; }
interfaces = { "%[2]s" }
c2s_ports = { 5222 }
c2s_direct_tls_ports = { }
s2s_ports = { }
modules_enabled = {
	"roster"; "saslauth"; "tls"; "disco"; "offline"; "blocklist"; "carbons"; "pep"; "private"; "smacks"; "vcard4"; "vcard_legacy";
	"ping"; "time"; "uptime"; "version"; "posix";
}
modules_disabled = { "s2s" }
authentication = "internal_hashed"
c2s_require_encryption = true
certificates = "%[1]s"
VirtualHost "%[3]s"
	ssl = { key = "%[1]s/key.pem"; certificate = "%[1]s/cert.pem"; }
`

func newProsody(dir string) (*prosodyServer, error) {
	if _, err := exec.LookPath("prosody"); err != nil {
		return nil, errors.New("prosody of Debian is missing: internal/interop/setup.sh installs it and starts nothing")
	}
	host, err := testbox.FreeHost()
	return &prosodyServer{dir: filepath.Join(dir, "prosody"), host: host}, err
}

func (p *prosodyServer) name() string { return "Prosody" }

func (p *prosodyServer) version(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Version}", "prosody").Output()
	return "Prosody " + string(out)
}

func (p *prosodyServer) config() string { return filepath.Join(p.dir, "prosody.cfg.lua") }

func (p *prosodyServer) prepare(context.Context) error {
	if err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o700)); err != nil {
		return err
	}
	if err := os.WriteFile(p.config(), fmt.Appendf(nil, prosodyConfig, p.dir, p.host, domain), 0o600); err != nil {
		return err
	}
	return p.certificate()
}

// certificate is as pibox makes them for itself: ECDSA, P-256, of an authority that is sent along.
func (p *prosodyServer) certificate() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: domain}, DNSNames: []string{domain},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	block := func(typ string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}) }
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(block("CERTIFICATE", caDER))
	return errors.Join(
		os.WriteFile(filepath.Join(p.dir, "key.pem"), block("PRIVATE KEY", keyDER), 0o600),
		os.WriteFile(filepath.Join(p.dir, "cert.pem"), append(block("CERTIFICATE", leafDER), block("CERTIFICATE", caDER)...), 0o600),
	)
}

// writeAccounts writes what prosodyctl would, in a fraction of the time.
func (p *prosodyServer) writeAccounts() error {
	folder := filepath.Join(p.dir, "data", strings.ReplaceAll(domain, ".", "%2e"), "accounts")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	const salt, iterations = "bench-salt", 10000
	salted, err := pbkdf2.Key(sha1.New, password, []byte(salt), iterations, sha1.Size)
	if err != nil {
		return err
	}
	mac := func(text string) []byte {
		m := hmac.New(sha1.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha1.Sum(mac("Client Key"))
	account := fmt.Appendf(nil, "return {\n\t[\"iteration_count\"] = %d;\n\t[\"salt\"] = %q;\n\t[\"stored_key\"] = \"%x\";\n\t[\"server_key\"] = \"%x\";\n};\n",
		iterations, salt, stored, mac("Server Key"))
	for i := range users {
		if err := os.WriteFile(filepath.Join(folder, user(i)+".dat"), account, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *prosodyServer) reset() error {
	return errors.Join(os.RemoveAll(filepath.Join(p.dir, "data")), p.writeAccounts())
}

func (p *prosodyServer) launch() error {
	p.cmd = exec.Command("prosody", "--config", p.config())
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(done)
	}(p.cmd)
	return nil
}

func (p *prosodyServer) pid() int               { return p.cmd.Process.Pid }
func (p *prosodyServer) ended() <-chan struct{} { return p.done }

func (p *prosodyServer) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(3 * time.Second): // 0.12.3 does not end when a client leaves at the same time (mod_c2s.lua:469)
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		p.cmd = nil
	}
}

func (p *prosodyServer) addr() string     { return p.host + ":5222" }
func (p *prosodyServer) tls() *tls.Config { return &tls.Config{RootCAs: p.roots} }
