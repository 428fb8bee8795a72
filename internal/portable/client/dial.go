package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"golang.org/x/net/idna"
)

// maxTargets bounds how many addresses of a domain are tried.
const maxTargets = 8

// target is a place where a domain's clients may connect.
type target struct {
	address  string
	direct   bool // TLS from the first byte, XEP-0368
	priority uint16
}

// targets are the addresses of a domain in the order to try them: RFC 6120 §3.2, XEP-0368 §3.
func (c *Config) targets(ctx context.Context, ascii string) []target {
	if c.Address != "" {
		return []target{{address: c.Address, direct: c.Direct}}
	}
	resolver := c.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	var list []target
	known, none := false, 0
	for _, service := range []string{"xmpps-client", "xmpp-client"} {
		_, records, _ := resolver.LookupSRV(ctx, service, "tcp", ascii) // without an answer the names below are tried
		known = known || len(records) > 0
		for _, r := range records {
			if r.Target == "." { // RFC 2782: decidedly not available
				none++
				continue
			}
			list = append(list, target{net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))), service == "xmpps-client", r.Priority})
		}
	}
	slices.SortStableFunc(list, func(a, b target) int { return cmp.Compare(a.priority, b.priority) })
	if !known || len(list) == 0 && none < 2 {
		list = append(list, target{address: net.JoinHostPort(ascii, "5222")}, target{address: net.JoinHostPort(ascii, "5223"), direct: true})
	}
	return list[:min(len(list), maxTargets)]
}

// connect gives a connection with TLS to the account's server, whose certificate names the account's domain.
func (c *Config) connect(ctx context.Context) (*tls.Conn, error) {
	ascii, err := idna.Lookup.ToASCII(c.Account.Domain)
	if err != nil {
		return nil, &Error{Kind: NameNotFound, Err: err}
	}
	looking, cancel := context.WithTimeout(ctx, c.Limits.Connect)
	list := c.targets(looking, ascii)
	cancel()
	if len(list) == 0 {
		return nil, &Error{Kind: Refused, Text: "its entry in the DNS says that it has none"}
	}
	var worst error
	for _, t := range list {
		conn, err := c.try(ctx, t, ascii)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = at("", err); worst == nil || gravity(err) > gravity(worst) {
			worst = err
		}
	}
	return nil, worst
}

// gravity orders failures by how much they tell about the server.
func gravity(err error) int {
	var e *Error
	if !errors.As(err, &e) {
		return 0
	}
	return slices.Index([]Kind{NameNotFound, Unreachable, TimedOut, Lost, Refused, Broken, TryLater, NoEncryption, Untrusted}, e.Kind)
}

func (c *Config) try(ctx context.Context, t target, ascii string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Limits.Connect)
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Resolver: c.Resolver}).DialContext
	}
	conn, err := dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	secure, err := c.secure(conn, t, ascii)
	if stopped := stop(); err == nil && !stopped {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func (c *Config) secure(conn net.Conn, t target, ascii string) (*tls.Conn, error) {
	if !t.direct {
		if err := startTLS(conn, c.Account.Domain); err != nil {
			return nil, err
		}
	}
	// Strict: the account's domain, and not the host that SRV led to, must be named (RFC 6120 §13.7.2).
	cfg := &tls.Config{ServerName: ascii, MinVersion: tls.VersionTLS12}
	if c.Roots != nil {
		cfg.RootCAs = c.Roots()
	}
	if t.direct {
		cfg.NextProtos = []string{"xmpp-client"} // XEP-0368 §4
	}
	secure := tls.Client(conn, cfg)
	return secure, secure.Handshake()
}

// startTLS asks for TLS. Nothing of the account is told before (RFC 6120 §4.7.1).
func startTLS(conn net.Conn, domain string) error {
	rd := frame.NewReader(conn, frame.Limits{Bytes: 64 << 10})
	header := xmpp.NewXML("stream:stream").Attr("to", domain).Attr("version", "1.0").Attr("xmlns", frame.NSClient).Attr("xmlns:stream", frame.NSStreams)
	if err := write(conn, append([]byte("<?xml version='1.0'?>"), header.StartTag()...)); err != nil {
		return err
	}
	features, err := negotiating(rd)
	if err != nil {
		return err
	}
	if !features.HasChild(nsTLS, "starttls") { // or somebody on the way has taken it out: RFC 7590 §3.1
		return &Error{Kind: NoEncryption}
	}
	if err := write(conn, xmpp.NewXMLNS("starttls", nsTLS).Bytes()); err != nil {
		return err
	}
	answer, err := negotiating(rd)
	switch {
	case err != nil:
		return err
	case answer.NS != nsTLS || answer.Name != "proceed":
		return &Error{Kind: NoEncryption, Text: "it refused to begin TLS"}
	case rd.Buffered() > 0: // came without protection, to be read as if it had it
		return broken("it sent something between the agreement on TLS and TLS")
	}
	return nil
}

func write(conn net.Conn, b []byte) error {
	_, err := conn.Write(b)
	return err
}

// negotiating gives the next element of a stream that is being negotiated.
func negotiating(rd *frame.Reader) (*frame.Element, error) {
	for {
		ev, err := rd.Next()
		switch {
		case err != nil:
			return nil, err
		case ev.Kind == frame.KindElement && ev.Element.NS == frame.NSStreams && ev.Element.Name == "error":
			return nil, streamError(ev.Element)
		case ev.Kind == frame.KindElement:
			return ev.Element, nil
		case ev.Kind == frame.KindEnd:
			return nil, &Error{Kind: Ended}
		}
	}
}
