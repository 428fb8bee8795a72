package s2s

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"net"
	"strings"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"

	"golang.org/x/net/idna"
)

const (
	maxBefore   = 40 // elements before authentication: some dialback requests, SASL, bidi
	maxFailures = 3  // of SASL, RFC 6120 §6.4.5
)

// serve is the life of an incoming connection.
func (s *Server) serve(conn net.Conn, direct bool) {
	t := s.newStream(conn, pair{}, true)
	t.log.Debug("connection of another server", "address", conn.RemoteAddr().String(), "direct", direct)
	t.finish(t.welcome(direct))
}

func (t *stream) welcome(direct bool) error {
	if !direct {
		if err := t.openIn(); err != nil {
			return err
		}
		el, err := t.element()
		switch {
		case err != nil:
			return err
		case el.NS != nsTLS || el.Name != "starttls":
			return &xmpp.StreamError{Condition: "policy-violation", Text: "STARTTLS is required"}
		case t.r.Buffered() > 0:
			return &xmpp.StreamError{Condition: "policy-violation", Text: "bytes behind starttls, before TLS"}
		}
		if err := t.send([]byte("<proceed xmlns='" + nsTLS + "'/>")); err != nil {
			return err
		}
	}
	conn := tls.Server(t.socket, t.s.serverTLS(t.pair.local, direct))
	if err := conn.HandshakeContext(t.s.connecting); err != nil {
		t.log.Info("TLS with another server failed", "error", err)
		_ = t.socket.Close()
		return err
	}
	t.useTLS(conn)
	if err := t.openIn(); err != nil {
		return err
	}
	return t.run()
}

// serverTLS asks for the peer's certificate, whatever it is; what it proves is looked at when the peer said who it is.
func (s *Server) serverTLS(local string, direct bool) *tls.Config {
	base := s.opt.TLS
	cfg := &tls.Config{
		MinVersion: max(base.MinVersion, tls.VersionTLS12), ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
		Rand: base.Rand, Time: base.Time,
	}
	if direct {
		cfg.NextProtos = []string{"xmpp-server"} // XEP-0368 §3
	}
	ascii, err := idna.Lookup.ToASCII(local)
	cfg.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName == "" && err == nil {
			h.ServerName = ascii // the header said whom they want
		}
		return base.GetCertificate(h)
	}
	return cfg
}

// features are what is offered: before TLS nothing but TLS.
func (t *stream) features() string {
	if t.conn == t.socket {
		return "<starttls xmlns='" + nsTLS + "'><required/></starttls>"
	}
	f := "<dialback xmlns='" + nsDialbackFeature + "'><errors/></dialback>"
	if t.sasl {
		if !t.s.opt.withoutSM {
			f += sm.Feature
		}
		return f
	}
	f += "<bidi xmlns='" + nsBidiFeature + "'/>"
	// XEP-0178 §3: offered when it would succeed.
	if t.pair.remote != "" && t.proves(t.pair.remote) == nil {
		f += "<mechanisms xmlns='" + nsSASL + "'><mechanism>EXTERNAL</mechanism></mechanisms>"
	}
	return f
}

// openIn reads the peer's header and answers it.
func (t *stream) openIn() error {
	t.headerSent = false
	t.streamID = rand.Text()
	h, err := t.header()
	if err != nil {
		return err
	}
	if err := t.checkHeader(h); err != nil {
		return err
	}
	b := appendHeader(nil, t.pair.local, t.pair.remote, t.streamID)
	t.headerSent = true
	return t.send(append(append(append(b, "<stream:features>"...), t.features()...), "</stream:features>"...))
}

// checkHeader checks the header of a server that connected to us and takes its addresses (RFC 6120 §4.7, §4.9.3).
func (t *stream) checkHeader(h *frame.Header) error {
	if h.ContentNS != xmpp.NSServer {
		return &xmpp.StreamError{Condition: "invalid-namespace", Text: "servers talk in jabber:server"}
	}
	if err := checkVersion(h.Version); err != nil {
		return err
	}
	to, err := xmpp.ParseJID(h.To)
	switch {
	case err != nil || to != to.Host():
		return &xmpp.StreamError{Condition: "improper-addressing", Text: "the stream must be to a domain"}
	case !t.s.router.IsLocal(to.Domain):
		return &xmpp.StreamError{Condition: "host-unknown", Text: "this domain is not served here"}
	}
	remote := ""
	if h.From != "" {
		from, err := xmpp.ParseJID(h.From)
		if err != nil || from != from.Host() || t.s.router.IsLocal(from.Domain) {
			return &xmpp.StreamError{Condition: "invalid-from", Text: "the stream must be from a domain of yours"}
		}
		remote = from.Domain
	}
	if t.sasl {
		// What SASL proved stays.
		if remote != "" && remote != t.pair.remote || to.Domain != t.pair.local {
			return &xmpp.StreamError{Condition: "invalid-from", Text: "another pair of domains was authenticated"}
		}
		return nil
	}
	t.pair = pair{to.Domain, remote}
	if permit := t.s.policy.of(remote); remote != "" && !permit.talk {
		return &xmpp.StreamError{Condition: "policy-violation", Text: permit.why}
	}
	return nil
}

// checkVersion: what came before 1.0 has no TLS (RFC 6120 §4.7.5).
func checkVersion(v string) error {
	major, _, _ := strings.Cut(v, ".")
	if strings.TrimLeft(major, "0") == "" {
		return &xmpp.StreamError{Condition: "unsupported-version", Text: "version 1.0 is needed"}
	}
	return nil
}

// auth is SASL EXTERNAL (RFC 6120 §6, XEP-0178 §3).
func (t *stream) auth(el *frame.Element) error {
	text := strings.TrimSpace(el.Node().Text)
	switch {
	case el.Name == "abort":
		t.saslWait = false
		return t.refuseAuth("aborted")
	case el.Name == "auth" && el.Attr("mechanism") != "EXTERNAL":
		return t.refuseAuth("invalid-mechanism")
	case el.Name == "auth" && text == "":
		t.saslWait = true
		return t.send([]byte("<challenge xmlns='" + nsSASL + "'/>"))
	case el.Name == "auth", el.Name == "response" && t.saslWait:
	default:
		return t.refuseAuth("malformed-request")
	}
	t.saslWait = false
	if text == "=" {
		text = ""
	}
	authzid, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return t.refuseAuth("incorrect-encoding")
	}
	remote, condition := t.identify(string(authzid))
	if condition != "" {
		return t.refuseAuth(condition)
	}
	if err := t.proves(remote); err != nil {
		t.log.Info("SASL EXTERNAL is refused", "remote", remote, "error", err)
		return t.refuseAuth("not-authorized")
	}
	t.pair.remote = remote
	return t.authorized()
}

// identify is whom the peer wants to be: the authorization identity, which must be the stream's from where both are given. Otherwise it returns the
// condition to refuse with.
func (t *stream) identify(authzid string) (remote, condition string) {
	remote = t.pair.remote
	if authzid != "" {
		j, err := xmpp.ParseJID(authzid)
		if err != nil || j != j.Host() || remote != "" && j.Domain != remote {
			return "", "invalid-authzid"
		}
		remote = j.Domain
	}
	if remote == "" || !t.s.policy.of(remote).talk {
		return "", "not-authorized"
	}
	return remote, ""
}

func (t *stream) refuseAuth(condition string) error {
	if err := t.send([]byte("<failure xmlns='" + nsSASL + "'><" + condition + "/></failure>")); err != nil {
		return err
	}
	if t.failures++; t.failures >= maxFailures {
		return &xmpp.StreamError{Condition: "policy-violation", Text: "too many attempts to authenticate"}
	}
	return nil
}

// authorized restarts the stream. A certificate proves the peer towards all of our domains.
func (t *stream) authorized() error {
	if err := t.send([]byte("<success xmlns='" + nsSASL + "'/>")); err != nil {
		return err
	}
	t.sasl = true
	t.r.Restart(t.conn)
	if err := t.openIn(); err != nil {
		return err
	}
	for _, d := range t.s.router.Domains() {
		t.peers[pair{d, t.pair.remote}] = t.peer(t.pair.remote, xmpp.ProofCertificate)
	}
	t.log.Info("stream of another server", "local", t.pair.local, "remote", t.pair.remote, "by", "certificate", "bidi", t.bidi)
	t.start()
	t.s.appeared(t.pair)
	if t.bidi {
		t.attachLater()
	}
	return nil
}

// admit lets the peer send for a pair of domains and says so.
func (t *stream) admit(p pair, proof xmpp.Proof, answer []byte) error {
	t.peers[p] = t.peer(p.remote, proof)
	t.start()
	if err := t.send(answer); err != nil {
		return err
	}
	by := "dialback"
	if proof == xmpp.ProofCertificate {
		by = "certificate"
	}
	t.log.Info("stream of another server", "local", p.local, "remote", p.remote, "by", by, "bidi", t.bidi)
	t.s.appeared(p)
	if t.bidi && t.incoming {
		t.s.attach(p, t)
	}
	return nil
}

func (t *stream) peer(domain string, proof xmpp.Proof) *xmpp.Peer {
	return &xmpp.Peer{Domain: domain, Proof: proof, ConnID: t.id}
}
