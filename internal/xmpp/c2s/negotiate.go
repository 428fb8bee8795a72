package c2s

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

const (
	nsTLS = "urn:ietf:params:xml:ns:xmpp-tls"
	// maxTries is how often one step of the negotiation may fail on a connection (RFC 6120 §6.4.5: at least 2, at most 5 retries).
	maxTries = 5
)

// negotiate brings the connection to a bound resource (RFC 6120 §4.3). All of it has to happen within AuthTimeout.
func (c *conn) negotiate() error {
	c.readUntil(c.started.Add(c.srv.opt.AuthTimeout))
	err := c.stages()
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.isEnding() {
		return &xmpp.StreamError{Condition: "connection-timeout", Text: "logging in took too long"}
	}
	return err
}

func (c *conn) stages() error {
	if !c.direct {
		if err := c.open(fixed([]byte("<starttls xmlns='" + nsTLS + "'><required/></starttls>"))); err != nil {
			return err
		}
		if err := c.awaitSTARTTLS(); err != nil {
			return err
		}
	}
	shown, err := c.handshake()
	if err != nil {
		return err
	}
	if err := c.login(shown); err != nil {
		return err
	}
	c.noLongerWaiting()
	c.rd.SetLimits(c.srv.opt.limits(c.srv.opt.Stanza))
	c.restart()
	return c.bind()
}

// restart expects a new stream from the client (RFC 6120 §4.3.3).
func (c *conn) restart() {
	c.rd.Restart(c.in)
	c.unheaded()
}

func (c *conn) unheaded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headed = false
}

// open reads the client's stream header and answers with ours and the features, which may depend on it.
func (c *conn) open(features func() ([]byte, error)) error {
	h, err := c.readHeader()
	if err == nil {
		err = c.checkHeader(h)
	}
	if err != nil {
		return err
	}
	f, err := features()
	if err != nil {
		return err
	}
	x := append(c.header(), "<stream:features>"...)
	c.send(append(append(x, f...), "</stream:features>"...), true)
	return nil
}

func fixed(features []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return features, nil }
}

func (c *conn) readHeader() (*frame.Header, error) {
	for {
		ev, err := c.rd.Next()
		if err != nil {
			return nil, c.explain(err)
		}
		if ev.Kind == frame.KindHeader {
			return ev.Header, nil
		}
	}
}

// send writes bytes of the stream itself; head: they begin with the stream header. It is for the reading goroutine.
func (c *conn) send(b []byte, head bool) {
	c.mu.Lock()
	c.headed = c.headed || head
	mine := c.out.queue(b)
	c.mu.Unlock()
	switch {
	case mine && c.session == nil:
		c.out.run()
	case mine: // others put stanzas in: there may be no end to it
		go c.out.run()
	}
}

// header is our stream header (RFC 6120 §4.7).
func (c *conn) header() []byte {
	x := xmpp.NewXML("stream:stream").Attr("xmlns", xmpp.NSClient).Attr("xmlns:stream", frame.NSStreams).
		Attr("id", rand.Text()).Attr("from", c.domain).Attr("to", c.peer).Attr("version", "1.0").Attr("xml:lang", "en")
	return append([]byte("<?xml version='1.0'?>"), x.StartTag()...)
}

// checkHeader takes what counts out of the client's stream header.
func (c *conn) checkHeader(h *frame.Header) error {
	// RFC 6120 §4.8.3: the content namespace is the default one, or each stanza declares it.
	if h.ContentNS != xmpp.NSClient && h.ContentNS != frame.NSStreams {
		return &xmpp.StreamError{Condition: "invalid-namespace", Text: "the content namespace is not jabber:client"}
	}
	if err := c.checkTo(h.To); err != nil {
		return err
	}
	if err := c.checkFrom(h.From); err != nil {
		return err
	}
	if major, _, ok := strings.Cut(h.Version, "."); !ok || strings.Trim(major, "0123456789") != "" || strings.Trim(major, "0") == "" {
		return &xmpp.StreamError{Condition: "unsupported-version", Text: "version 1.0 is needed"} // RFC 6120 §4.7.5
	}
	c.lang = ""
	if isLang(h.Lang) {
		c.lang = h.Lang
	}
	return nil
}

func (c *conn) checkTo(to string) error {
	if to == "" {
		return &xmpp.StreamError{Condition: "improper-addressing", Text: "the stream header does not say to which domain"}
	}
	j, err := xmpp.ParseJID(to)
	switch {
	case err != nil || j != j.Host() || !c.srv.router.IsLocal(j.Domain):
		return &xmpp.StreamError{Condition: "host-unknown", Text: "this box does not serve that domain"}
	case !c.account.IsZero() && j.Domain != c.account.Domain:
		return &xmpp.StreamError{Condition: "host-unknown", Text: "the login was for another domain"}
	}
	c.domain = j.Domain
	return nil
}

// checkFrom: a client may say who it is (RFC 6120 §4.7.1); after the login that has to be true.
func (c *conn) checkFrom(from string) error {
	c.peer = ""
	if from == "" {
		return nil
	}
	j, err := xmpp.ParseJID(from)
	if err != nil || (!c.account.IsZero() && j.Bare() != c.account) {
		return &xmpp.StreamError{Condition: "invalid-from", Text: "the stream is from somebody else"}
	}
	c.peer = j.String() // RFC 6120 §4.7.2: the bare JID it gave; mellium's client gives a full one and wants that back
	return nil
}

// isLang tells what looks like a language tag (BCP 47).
func isLang(s string) bool {
	for i := range len(s) {
		b := s[i]
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 35
}

// awaitSTARTTLS: RFC 6120 §5.4.2.
func (c *conn) awaitSTARTTLS() error {
	for range maxTries {
		el, err := c.next()
		switch {
		case err != nil:
			return err
		case el.NS == nsSASL: // RFC 6120 §6.5.4
			c.send(failure("encryption-required", "log in after STARTTLS"), false)
			continue
		case el.NS != nsTLS || el.Name != "starttls":
			return &xmpp.StreamError{Condition: "not-authorized", Text: "nothing is taken before STARTTLS and a login"}
		case c.rd.Buffered() > 0 || len(el.Children) > 0:
			// What came behind it came without protection, and must not be taken for what comes with it.
			c.send([]byte("<failure xmlns='"+nsTLS+"'/>"), false)
			return errInjected
		}
		c.send([]byte("<proceed xmlns='"+nsTLS+"'/>"), false)
		return nil
	}
	return tooManyTries()
}

var errInjected = errors.New("bytes behind starttls, before TLS")

func tooManyTries() error {
	return &xmpp.StreamError{Condition: "policy-violation", Text: "too many attempts on one connection"}
}

// hello is what a TLS handshake tells and asks of a connection, by its context.
type hello struct {
	domain string            // that the stream is to, for clients that name none in TLS
	shown  *x509.Certificate // that was presented; nil on a resumed session
}

type helloKey struct{}

// serverTLS is c for our purposes.
func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12) // RFC 7590, RFC 8996
	c.DynamicRecordSizingDisabled = true               // a record per write
	choose := c.GetCertificate
	c.GetCertificate = func(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
		h, _ := info.Context().Value(helloKey{}).(*hello)
		if h == nil {
			h = &hello{}
		}
		if info.ServerName == "" {
			info.ServerName = h.domain
		}
		cert, err := choose(info)
		if err != nil {
			return nil, err
		}
		h.shown = cert.Leaf
		return cert, nil
	}
	return c
}

// handshake puts TLS between the connection and everything above it. It returns the certificate that was shown.
func (c *conn) handshake() (*x509.Certificate, error) {
	if err := c.out.hold(); err != nil {
		return nil, err
	}
	c.unheaded()
	config := c.srv.starttls
	if c.direct {
		config = c.srv.direct
	}
	h := &hello{domain: c.domain}
	tc := tls.Server(c.raw, config)
	_ = c.raw.SetWriteDeadline(time.Now().Add(c.srv.opt.AuthTimeout))
	if err := tc.HandshakeContext(context.WithValue(context.Background(), helloKey{}, h)); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	c.net = tc
	in := *c.in
	in.src = tc
	c.in = &in
	c.restart()
	c.out.resume(tc)
	return h.shown, nil
}
