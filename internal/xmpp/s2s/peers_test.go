//go:build peers

// Against real servers from Debian: go test -tags peers -run 'Prosody|Ejabberd' ./internal/xmpp/s2s
package s2s

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pibox/internal/xmpp"

	"github.com/miekg/dns"
)

const prosodyConfig = `
run_as_root = true
daemonize = false
data_path = "%[1]s/data"
pidfile = "%[1]s/prosody.pid"
log = { debug = "%[1]s/log" }
interfaces = { "127.0.7.2" }
c2s_ports = {}
c2s_direct_tls_ports = {}
s2s_ports = { 5269 }
s2s_direct_tls_ports = { 5270 }
unbound = { resolvconf = false; hoststxt = false; forward = { "127.0.7.1@%[2]s" }; options = { ["do-not-query-localhost:"] = "no" } }
modules_enabled = { "saslauth", "tls", "dialback", "disco", "ping", %[3]s }
s2s_require_encryption = true
s2s_secure_auth = %[4]v
certificates = "%[1]s"
ssl = { cafile = "%[1]s/ca.pem" }
VirtualHost "prosody.example"
`

func TestProsody(t *testing.T) {
	for name, c := range map[string]struct {
		bidi, direct   bool
		weBad, theyBad bool
		proof          xmpp.Proof
		module         string
	}{
		"EXTERNAL":                 {proof: xmpp.ProofCertificate},
		"EXTERNAL, direct TLS":     {direct: true, proof: xmpp.ProofCertificate},
		"EXTERNAL, bidi":           {bidi: true, proof: xmpp.ProofCertificate},
		"our certificate is bad":   {weBad: true, proof: xmpp.ProofCertificate},
		"their certificate is bad": {theyBad: true, proof: xmpp.ProofDialback},
		"dialback both ways":       {weBad: true, theyBad: true, proof: xmpp.ProofDialback},
		"dialback, bidi":           {weBad: true, theyBad: true, bidi: true, proof: xmpp.ProofDialback},
	} {
		t.Run(name, func(t *testing.T) {
			b := boxForPeer(t, "prosody", c.direct, c.weBad, c.theyBad)
			cert := b.net.ca.issue(t, "prosody.example")
			if c.theyBad {
				cert = selfSigned(t, "prosody.example")
			}
			startProsody(t, b.net.ca, cert, b.opt.Resolver, c.bidi, !c.weBad)
			b.talkWith(t, "prosody.example", c.proof)
			if asked := strings.Contains(b.log.String(), "EXTERNAL does not serve"); asked != c.weBad {
				t.Errorf("we went by dialback: %v", asked)
			}
			wantIn := 1
			if c.bidi && !c.weBad { // to verify our key it opens one, and authenticates it too
				wantIn = 0
			}
			if in := strings.Count(b.log.String(), `msg="stream of another server" `); in != wantIn {
				t.Errorf("%d streams were opened by Prosody", in)
			}
		})
	}
}

// boxForPeer is box.example on 127.0.7.1, with a name server that knows the peer on 127.0.7.2.
func boxForPeer(t *testing.T, peer string, direct, weBad, theyBad bool) *box {
	n := newNet(t)
	z := newZone(t, zoneFor(peer, direct))
	b := n.box("box.example", func(o *Options) {
		o.Resolver = serveDNS(t, z)
		o.Dialback = theyBad
		o.Dial = nil
	})
	t.Cleanup(b.stop)
	if weBad {
		cert := selfSigned(t, "box.example")
		b.cert = func(string) *tls.Certificate { return cert }
	}
	for port, direct := range map[string]bool{"5269": false, "5270": true} {
		l, err := net.Listen("tcp", "127.0.7.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = b.Serve(l, direct) }()
	}
	return b
}

// talkWith sends a ping and a message to nobody, and checks what comes back.
func (b *box) talkWith(t *testing.T, domain string, proof xmpp.Proof) {
	got := make(chan received, 10)
	b.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.IQ, Type: "result"}, keep(got))
	b.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.Message, Type: "error"}, keep(got))
	b.Send(xmpp.Make([]byte(`<iq type='get' id='ping' from='romeo@box.example/orchard' to='` + domain + `'><ping xmlns='urn:xmpp:ping'/></iq>`)))
	b.Send(xmpp.Make([]byte(`<message id='m1' from='romeo@box.example/orchard' to='nobody@` + domain + `'><body>hi</body></message>`)))
	have := map[string]bool{}
	for range 2 {
		select {
		case g := <-got:
			have[g.st.ID] = true
			if g.peer == nil || g.peer.Proof != proof {
				t.Errorf("got %s by %+v", g.st.Raw, g.peer)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing came back")
		}
	}
	if !have["ping"] || !have["m1"] {
		t.Error(have)
	}
}

func keep(got chan received) xmpp.Handler {
	return func(rq *xmpp.Request) error {
		got <- received{rq.Stanza, rq.Peer}
		return nil
	}
}

func zoneFor(peer string, direct bool) string {
	service, port := "_xmpp-server", 5269
	if direct {
		service, port = "_xmpps-server", 5270
	}
	var b strings.Builder
	for i, d := range []string{"box", peer} {
		fmt.Fprintf(&b, "%s._tcp.%s.example. 60 IN SRV 0 0 %d host.%s.example.\nhost.%s.example. 60 IN A 127.0.7.%d\n", service, d, port, d, d, i+1)
	}
	return b.String()
}

func serveDNS(t *testing.T, z *zone) string {
	conn, err := net.ListenPacket("udp", "127.0.7.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(z.answer(q)) })}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	return conn.LocalAddr().String()
}

func startProsody(t *testing.T, ca *authority, cert *tls.Certificate, resolver string, bidi, secure bool) {
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(resolver)
	module := ""
	if bidi {
		module = `"s2s_bidi"`
	}
	writeFiles(t, dir, ca, cert, "prosody.example", map[string]string{"prosody.cfg.lua": fmt.Sprintf(prosodyConfig, dir, port, module, secure)})
	startPeer(t, dir, exec.Command("prosody", "-F", "--config", filepath.Join(dir, "prosody.cfg.lua")))
}

// writeFiles writes the authority, the certificate and its key, and more.
func writeFiles(t *testing.T, dir string, ca *authority, cert *tls.Certificate, domain string, more map[string]string) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	secret := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	files := map[string]string{
		"ca.pem":        string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})),
		domain + ".crt": chain, domain + ".key": secret, domain + ".pem": chain + secret,
	}
	maps.Copy(files, more)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// startPeer starts a server and waits until it listens.
func startPeer(t *testing.T, dir string, cmd *exec.Cmd) {
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s said\n%s\n%s", cmd.Path, &out, log)
		}
	})
	for range 400 {
		conn, err := net.Dial("tcp", "127.0.7.2:5269")
		if err == nil {
			_ = conn.Close()
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatal("the server does not listen")
}

const ejabberdConfig = `
loglevel: debug
hosts: ["ejabberd.example"]
certfiles: ["%[1]s/ejabberd.example.pem"]
ca_file: "%[1]s/ca.pem"
s2s_use_starttls: required
s2s_dns_timeout: 5
listen:
  - {port: 5269, ip: "127.0.7.2", module: ejabberd_s2s_in}
modules:
  mod_disco: {}
  mod_ping: {}
  mod_s2s_dialback: {}
`

func TestEjabberd(t *testing.T) {
	for name, c := range map[string]struct {
		weBad, theyBad bool
		proof          xmpp.Proof
	}{
		"EXTERNAL":               {proof: xmpp.ProofCertificate},
		"our certificate is bad": {weBad: true, proof: xmpp.ProofCertificate},
		"dialback both ways":     {weBad: true, theyBad: true, proof: xmpp.ProofDialback},
	} {
		t.Run(name, func(t *testing.T) {
			b := boxForPeer(t, "ejabberd", false, c.weBad, c.theyBad)
			cert := b.net.ca.issue(t, "ejabberd.example")
			if c.theyBad {
				cert = selfSigned(t, "ejabberd.example")
			}
			startEjabberd(t, b.net.ca, cert, b.opt.Resolver)
			b.talkWith(t, "ejabberd.example", c.proof)
		})
	}
}

func startEjabberd(t *testing.T, ca *authority, cert *tls.Certificate, resolver string) {
	dir := t.TempDir()
	host, port, _ := net.SplitHostPort(resolver)
	lib, err := filepath.Glob("/usr/lib/*/ejabberd-*")
	if err != nil || len(lib) == 0 {
		t.Fatal("ejabberd is not installed")
	}
	writeFiles(t, dir, ca, cert, "ejabberd.example", map[string]string{
		"ejabberd.yml": fmt.Sprintf(ejabberdConfig, dir),
		"inetrc": fmt.Sprintf("{lookup, [dns]}.\n{resolv_conf, \"\"}.\n{hosts_file, \"\"}.\n{nameserver, {%s}, %s}.\n",
			strings.ReplaceAll(host, ".", ","), port),
		"hosts": "127.0.7.1 host.box.example\n127.0.7.2 host.ejabberd.example\n",
	})
	cmd := exec.Command("erl", "-noinput", "+K", "true", "-mnesia", "dir", `"`+dir+`/mnesia"`, "-s", "ejabberd")
	cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+dir+"/ejabberd.yml", "EJABBERD_LOG_PATH="+dir+"/log", "ERL_INETRC="+dir+"/inetrc",
		"ERL_CRASH_DUMP="+dir+"/crash", "LD_PRELOAD=libnss_wrapper.so", "NSS_WRAPPER_HOSTS="+dir+"/hosts", "ERL_LIBS="+filepath.Dir(lib[0]), "HOME="+dir)
	startPeer(t, dir, cmd)
}
