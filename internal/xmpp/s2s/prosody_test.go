//go:build prosody

// Against a real Prosody from Debian: go test -tags prosody -run Prosody ./internal/xmpp/s2s
package s2s

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
			n := newNet(t)
			z := newZone(t, zoneFor(c.direct))
			b := n.box("box.example", func(o *Options) {
				o.Resolver = serveDNS(t, z)
				o.Dialback = c.theyBad
				o.Dial = nil
			})
			t.Cleanup(b.stop)
			if c.weBad {
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
			cert := n.ca.issue(t, "prosody.example")
			if c.theyBad {
				cert = selfSigned(t, "prosody.example")
			}
			startProsody(t, n.ca, cert, b.opt.Resolver, c.bidi, !c.weBad)
			got := make(chan received, 10)
			b.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.IQ, Type: "result"}, keep(got))
			b.router.Handle(xmpp.Key{Class: xmpp.ToNobody, Kind: xmpp.Message, Type: "error"}, keep(got))
			b.Send(xmpp.Make([]byte(`<iq type='get' id='ping' from='romeo@box.example/orchard' to='prosody.example'><ping xmlns='urn:xmpp:ping'/></iq>`)))
			b.Send(xmpp.Make([]byte(`<message id='m1' from='romeo@box.example/orchard' to='nobody@prosody.example'><body>hi</body></message>`)))
			for _, id := range []string{"ping", "m1"} {
				select {
				case g := <-got:
					if g.st.ID != id || g.peer == nil || g.peer.Proof != c.proof {
						t.Errorf("got %s by %+v", g.st.Raw, g.peer)
					}
				case <-time.After(20 * time.Second):
					t.Fatal("nothing came back")
				}
			}
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

func keep(got chan received) xmpp.Handler {
	return func(rq *xmpp.Request) error {
		got <- received{rq.Stanza, rq.Peer}
		return nil
	}
}

func zoneFor(direct bool) string {
	service, port := "_xmpp-server", 5269
	if direct {
		service, port = "_xmpps-server", 5270
	}
	var b strings.Builder
	for i, d := range []string{"box", "prosody"} {
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
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"prosody.cfg.lua":     fmt.Appendf(nil, prosodyConfig, dir, port, module, secure),
		"ca.pem":              pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}),
		"prosody.example.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		"prosody.example.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.Command("prosody", "-F", "--config", filepath.Join(dir, "prosody.cfg.lua"))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Prosody said\n%s\n%s", &out, log)
		}
	})
	for range 200 {
		conn, err := net.Dial("tcp", "127.0.7.2:5269")
		if err == nil {
			_ = conn.Close()
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatal("Prosody does not listen")
}
