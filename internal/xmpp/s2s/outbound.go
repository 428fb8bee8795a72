package s2s

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"

	"golang.org/x/net/idna"
	"mellium.im/xmpp/stanza"
)

// offer is what the features of an outgoing stream say.
type offer struct{ starttls, external, bidi, dialback, sm bool }

// connect opens a stream on which we may send for a pair.
func (s *Server) connect(ctx context.Context, p pair) (*stream, error) {
	return s.reach(ctx, p, func(t *stream, o offer) error {
		if err := t.authenticate(o); err != nil {
			return err
		}
		return t.enable()
	})
}

// reach tries the places of the remote domain's server in turn, until one is connected over TLS and then succeeds too.
func (s *Server) reach(ctx context.Context, p pair, then func(*stream, offer) error) (*stream, error) {
	targets, err := s.targets(ctx, p.remote)
	if err != nil {
		return nil, lookupFailure(err)
	}
	var failed error
	for _, tg := range targets {
		t, err := s.try(ctx, p, tg, then)
		if err == nil {
			return t, nil
		}
		s.log.Debug("a server did not work out", "remote", p.remote, "host", tg.host, "port", tg.port, "error", err)
		if ctx.Err() != nil {
			return nil, err
		}
		// Of several reasons the one that came furthest says most.
		if f := asFailure(err); failed == nil || f.lasting || asFailure(failed).condition == stanza.RemoteServerNotFound {
			failed = err
		}
	}
	return nil, failed
}

func (s *Server) try(ctx context.Context, p pair, tg target, then func(*stream, offer) error) (*stream, error) {
	conn, err := s.dial(ctx, tg)
	if err != nil {
		return nil, dialFailure(err)
	}
	t := s.newStream(conn, p, false)
	unwatch := context.AfterFunc(ctx, func() { _ = conn.Close() })
	o, err := t.secure(ctx, tg.direct)
	if err == nil {
		err = then(t, o)
	}
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.wg.Go(func() { t.finish(err) })
		return nil, negotiationFailure(err)
	}
	t.log.Info("stream to another server", "local", p.local, "remote", p.remote, "host", tg.host, "port", tg.port,
		"direct", tg.direct, "certificate", t.proves(p.remote) == nil, "bidi", t.bidi)
	return t, nil
}

// secure gets the stream to where it is over TLS and its features are known.
func (t *stream) secure(ctx context.Context, direct bool) (offer, error) {
	if !direct {
		o, err := t.openOut()
		if err != nil {
			return o, err
		}
		if !o.starttls {
			return o, &failure{stanza.RemoteServerTimeout, true, errors.New("the server offers no TLS")}
		}
		if err := t.starttls(); err != nil {
			return o, err
		}
	}
	cfg, err := t.s.clientTLS(t.pair, direct)
	if err != nil {
		return offer{}, err
	}
	conn := tls.Client(t.socket, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return offer{}, tlsFailure(err)
	}
	t.useTLS(conn)
	return t.openOut()
}

func (t *stream) starttls() error {
	if err := t.send([]byte("<starttls xmlns='" + nsTLS + "'/>")); err != nil {
		return err
	}
	el, err := t.element()
	switch {
	case err != nil:
		return err
	case el.NS != nsTLS || el.Name != "proceed":
		return &failure{stanza.RemoteServerTimeout, true, errors.New("the server refuses STARTTLS")}
	case t.r.Buffered() > 0:
		return errors.New("bytes came behind the answer to STARTTLS, before TLS")
	}
	return nil
}

// clientTLS shows our domain's certificate, and refuses a peer's that policy does not let pass.
func (s *Server) clientTLS(p pair, direct bool) (*tls.Config, error) {
	local, err := idna.Lookup.ToASCII(p.local)
	if err != nil {
		return nil, err
	}
	remote, err := idna.Lookup.ToASCII(p.remote)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		ServerName: remote, MinVersion: max(s.opt.TLS.MinVersion, tls.VersionTLS12), Rand: s.opt.TLS.Rand, Time: s.opt.TLS.Time,
		InsecureSkipVerify: true, // VerifyConnection verifies, by the rules of XMPP
	}
	if direct {
		cfg.NextProtos = []string{"xmpp-server"} // XEP-0368 §3
	}
	cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c, err := s.opt.TLS.GetCertificate(&tls.ClientHelloInfo{
			ServerName: local, SignatureSchemes: r.SignatureSchemes, SupportedVersions: []uint16{r.Version},
			CipherSuites:    []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_AES_128_GCM_SHA256},
			SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}, SupportedPoints: []uint8{0},
		})
		if err != nil {
			s.log.Error("no certificate to show to another server", "local", p.local, "error", err)
			return new(tls.Certificate), nil
		}
		return c, nil
	}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verifyCertificate(cs.PeerCertificates, p.remote, s.opt.Roots(), time.Now())
		if err != nil && !s.policy.of(p.remote).dialback {
			return &failure{stanza.RemoteServerTimeout, true, err}
		}
		return nil
	}
	return cfg, nil
}

// proves tells whether the peer's certificate proves a domain: nil when it does.
func (t *stream) proves(domain string) error {
	return verifyCertificate(t.certs, domain, t.s.opt.Roots(), time.Now())
}

// openOut sends our header and reads the peer's and its features.
func (t *stream) openOut() (offer, error) {
	var o offer
	if err := t.send(appendHeader(nil, t.pair.local, t.pair.remote, "")); err != nil {
		return o, err
	}
	t.headerSent = true
	h, err := t.header()
	if err != nil {
		return o, err
	}
	t.streamID = h.ID
	el, err := t.element()
	if err != nil {
		return o, err
	}
	if err := checkAnswer(h, t.pair); err != nil {
		return o, err
	}
	if el.NS != frame.NSStreams || el.Name != "features" {
		return o, &xmpp.StreamError{Condition: "bad-format", Text: "features were expected"}
	}
	f := el.Node()
	o.starttls = f.Child(nsTLS, "starttls") != nil
	o.bidi = f.Child(nsBidiFeature, "bidi") != nil
	o.dialback = f.Child(nsDialbackFeature, "dialback") != nil
	o.sm = f.Child(sm.NS, "sm") != nil
	for _, uri := range h.Prefixes {
		o.dialback = o.dialback || uri == nsDialback // XEP-0220 §2.3.1
	}
	if m := f.Child(nsSASL, "mechanisms"); m != nil {
		for _, c := range m.Children {
			o.external = o.external || c.Name == "mechanism" && strings.TrimSpace(c.Text) == "EXTERNAL"
		}
	}
	t.offered = o
	return o, nil
}

// checkAnswer checks the header of the server that we connected to (RFC 6120 §4.7).
func checkAnswer(h *frame.Header, p pair) error {
	if h.ContentNS != xmpp.NSServer {
		return &xmpp.StreamError{Condition: "invalid-namespace", Text: "servers talk in jabber:server"}
	}
	if err := checkVersion(h.Version); err != nil {
		return err
	}
	if h.From != "" {
		if j, err := xmpp.ParseJID(h.From); err != nil || j != (xmpp.JID{Domain: p.remote}) {
			return &xmpp.StreamError{Condition: "invalid-from", Text: "another domain answered"}
		}
	}
	return nil
}

// authenticate proves our domain to the peer: by certificate, else by dialback.
func (t *stream) authenticate(o offer) error {
	proof := xmpp.ProofDialback
	if t.proves(t.pair.remote) == nil {
		proof = xmpp.ProofCertificate
	}
	if o.bidi && t.s.policy.of(t.pair.remote).accepts(proof) {
		// XEP-0288 §2.2: before SASL or dialback.
		if err := t.send([]byte("<bidi xmlns='" + nsBidi + "'/>")); err != nil {
			return err
		}
		t.bidi = true
	}
	err := errNoExternal
	if o.external {
		err = t.external()
	}
	var refused *saslFailure
	if (errors.Is(err, errNoExternal) || errors.As(err, &refused)) && o.dialback && t.streamID != "" {
		t.log.Debug("dialback, because EXTERNAL does not serve", "error", err)
		err = t.askByDialback()
	}
	if err != nil {
		return err
	}
	if t.bidi {
		t.peers[t.pair] = &xmpp.Peer{Domain: t.pair.remote, Proof: proof, ConnID: t.id}
	}
	t.start()
	return nil
}

var errNoExternal = errors.New("the server offers no SASL EXTERNAL")

// saslFailure is what a peer answers (RFC 6120 §6.5).
type saslFailure struct{ condition, text string }

func (e *saslFailure) Error() string {
	return "the server refuses SASL EXTERNAL: " + e.condition + " " + e.text
}

// external is XEP-0178 §3. The authorization identity is given, which older servers need.
func (t *stream) external() error {
	id := base64.StdEncoding.EncodeToString([]byte(t.pair.local))
	if err := t.send([]byte("<auth xmlns='" + nsSASL + "' mechanism='EXTERNAL'>" + id + "</auth>")); err != nil {
		return err
	}
	el, err := t.element()
	if err == nil && el.NS == nsSASL && el.Name == "challenge" {
		if err = t.send([]byte("<response xmlns='" + nsSASL + "'>" + id + "</response>")); err == nil {
			el, err = t.element()
		}
	}
	switch {
	case err != nil:
		return err
	case el.NS == nsSASL && el.Name == "success":
		t.r.Restart(t.conn)
		_, err := t.openOut()
		return err
	case el.NS == nsSASL && el.Name == "failure":
		f := &saslFailure{condition: "not-authorized"}
		for _, c := range el.Node().Children {
			if c.Name == "text" {
				f.text = c.Text
			} else {
				f.condition = c.Name
			}
		}
		return f
	}
	return &xmpp.StreamError{Condition: "unsupported-stanza-type", Text: "an answer to SASL was expected"}
}

func lookupFailure(err error) error {
	if isNotFound(err) {
		return &failure{stanza.RemoteServerNotFound, true, err}
	}
	return &failure{stanza.RemoteServerTimeout, false, err}
}

// dialFailure: where nobody listens there is no server now, RFC 6120 §8.3.3.16; it may be starting.
func dialFailure(err error) error {
	switch {
	case isNotFound(err):
		return &failure{stanza.RemoteServerNotFound, true, err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &failure{stanza.RemoteServerNotFound, false, err}
	}
	return &failure{stanza.RemoteServerTimeout, false, err}
}

func tlsFailure(err error) error {
	var f *failure
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	if errors.As(err, &f) {
		return f
	}
	lasting := errors.As(err, &invalid) || errors.As(err, &alert) || errors.As(err, &record)
	return &failure{stanza.RemoteServerTimeout, lasting, fmt.Errorf("TLS: %w", err)}
}

// negotiationFailure is RFC 6120 §8.3.3.17, but for a server that does not know the domain.
func negotiationFailure(err error) error {
	var f *failure
	var pe *peerError
	var sf *saslFailure
	var se *xmpp.StreamError
	var fe *frame.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &pe):
		switch pe.condition {
		case "host-unknown", "host-gone":
			return &failure{stanza.RemoteServerNotFound, true, err}
		}
		return &failure{stanza.RemoteServerTimeout, !passing(pe.condition), err}
	case errors.As(err, &sf):
		return &failure{stanza.RemoteServerTimeout, sf.condition != "temporary-auth-failure", err}
	case errors.As(err, &se), errors.As(err, &fe), errors.Is(err, errNoExternal):
		return &failure{stanza.RemoteServerTimeout, true, err}
	}
	return &failure{stanza.RemoteServerTimeout, false, err}
}
