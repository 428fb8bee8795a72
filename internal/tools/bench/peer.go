package main

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
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"pibox/internal/testbox"
)

// inside is where a peer sees its data.
const inside = "/mnt"

// peer is a server that pibox is measured beside: a program of Debian 13 in the folder that setup.sh made, with the machine's network and a folder
// for its data on the machine's disk.
type peer struct {
	title string
	root  string // Debian's
	dir   string // of its data
	host  string
	roots *x509.CertPool
	grace time.Duration // to end by itself

	cmd     *exec.Cmd
	done    chan struct{}
	running atomic.Int64 // process id; 0: none
}

func newPeer(title, root, dir string, grace time.Duration) (*peer, error) {
	if _, err := os.Stat(filepath.Join(root, "etc", "pibox-bench")); err != nil {
		return nil, fmt.Errorf("%s is missing: internal/tools/bench/setup.sh installs it and starts nothing (or measure with -alone)", title)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root may run the peers, in a folder of their own (or measure with -alone)")
	}
	host, err := testbox.FreeHost()
	p := &peer{title: title, root: root, dir: filepath.Join(dir, strings.ReplaceAll(title, " ", "-")), host: host, grace: grace}
	return p, errors.Join(err, os.MkdirAll(p.dir, 0o700), p.certificate())
}

// run starts a command in Debian 13. It becomes the command by exec alone, so that its process id is the server's.
func (p *peer) run(env []string, command ...string) error {
	const script = `mount --bind "$2" "$1/mnt" && mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && root=$1 && shift 2 && ` +
		`exec chroot "$root" "$@"`
	args := []string{"--mount", "--propagation", "private", "sh", "-c", script, "sh", p.root, p.dir}
	p.cmd = exec.Command("unshare", append(args, command...)...)
	p.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + inside}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := os.OpenFile(filepath.Join(p.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	p.running.Store(int64(p.pid()))
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(done)
	}(p.cmd)
	return nil
}

func (p *peer) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(p.grace):
		p.kill()
		<-p.done
	}
	p.running.Store(0)
	p.cmd = nil
}

func (p *peer) kill() {
	if pid := p.running.Load(); pid > 0 {
		_ = syscall.Kill(-int(pid), syscall.SIGKILL) // its own group
	}
}

func (p *peer) name() string           { return p.title }
func (p *peer) pid() int               { return p.cmd.Process.Pid }
func (p *peer) ended() <-chan struct{} { return p.done }
func (p *peer) addr() string           { return p.host + ":5222" }
func (p *peer) tls() *tls.Config       { return &tls.Config{RootCAs: p.roots} }
func (p *peer) folder() string         { return p.dir }

// words are the last that it said.
func (p *peer) words() string {
	var out []string
	for _, name := range []string{"output", "log"} {
		raw, _ := os.ReadFile(filepath.Join(p.dir, name))
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		out = append(out, string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n"))))
	}
	return strings.Join(out, "\n")
}

// packageVersion is Debian's.
func (p *peer) packageVersion(name string) string {
	raw, _ := os.ReadFile(filepath.Join(p.root, "etc", "pibox-bench"))
	for line := range strings.Lines(string(raw)) {
		if n, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok && n == name {
			return version
		}
	}
	return "of unknown version"
}

// certificate is as pibox makes them for itself: ECDSA, P-256, of an authority that is sent along. One file holds them and the key.
func (p *peer) certificate() error {
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
	var all bytes.Buffer
	for _, b := range []*pem.Block{{Type: "CERTIFICATE", Bytes: leafDER}, {Type: "CERTIFICATE", Bytes: caDER}, {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := pem.Encode(&all, b); err != nil {
			return err
		}
	}
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}))
	return os.WriteFile(filepath.Join(p.dir, "both.pem"), all.Bytes(), 0o600)
}
