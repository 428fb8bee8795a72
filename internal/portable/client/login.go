package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"

	"golang.org/x/text/secure/precis"
	"mellium.im/sasl"
	mellium "mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/stream"
)

const (
	nsSASL = "urn:ietf:params:xml:ns:xmpp-sasl"
	nsCB   = "urn:xmpp:sasl-cb:0"

	// maxNegotiation bounds what a server may send from TLS to the resource.
	maxNegotiation = 256 << 10
	// The iterations of SCRAM: fewer than RFC 5802 §5.1 asks for would give the password away to who reads the proof, and many more are work
	// without end for a small box.
	minIterations, maxIterations = 4096, 1_000_000
)

// Dial reaches the account's server and logs in. ctx bounds that, not the session. Errors are *Error, or ctx's.
func Dial(ctx context.Context, c Config) (*Session, error) {
	c.Limits = c.Limits.orDefault()
	s, err := c.dial(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, ctx.Err()
	}
	return s, at(c.Account.Domain, err)
}

func (c *Config) dial(ctx context.Context) (*Session, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limits.Login)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := c.login(conn)
	if stopped := stop(); err == nil && !stopped {
		err = context.DeadlineExceeded
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, conn.SetDeadline(time.Time{})
}

// login negotiates SASL and a resource by mellium, and takes the stream over from it.
func (c *Config) login(conn *tls.Conn) (s *Session, err error) {
	account, err := jid.New(c.Account.Local, c.Account.Domain, "")
	if err != nil {
		return nil, err
	}
	tape := &tape{Conn: conn}
	a := &auth{c: c, state: conn.ConnectionState()}
	// Mellium's own handling of a context would clear deadlines that are set later; dial's stands above it.
	session, err := mellium.NewSession(context.Background(), account.Domain(), account, tape, mellium.Secure, mellium.NewNegotiator(
		func(*mellium.Session, *mellium.StreamConfig) mellium.StreamConfig {
			return mellium.StreamConfig{Features: []mellium.StreamFeature{a.bindings(), a.sasl(), mellium.BindResource()}}
		}))
	switch {
	case err != nil && tape.err != nil: // encoding/xml makes a fault of syntax of it
		return nil, tape.err
	case err != nil:
		return nil, a.explain(err)
	case session.State()&mellium.Authn == 0 || !a.done: // an empty list of features would have been enough for mellium
		return nil, broken("it wants no password")
	}
	me, err := xmpp.ParseJID(session.LocalAddr().String())
	if err != nil || me.Bare() != c.Account || me.Resource == "" {
		return nil, broken("it gives the resource of another account")
	}
	s = &Session{c: c, conn: conn, me: me}
	return s, s.takeOver(tape.read)
}

// tape is a connection that hands out one byte at a time, so that nothing is read ahead of the negotiation, and keeps what it read since the last
// stream began.
type tape struct {
	*tls.Conn
	read  []byte
	total int
	err   error // why nothing more came
}

func (t *tape) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := t.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// ReadByte keeps encoding/xml from buffering.
func (t *tape) ReadByte() (byte, error) {
	if t.total++; t.total > maxNegotiation {
		t.err = tooMuch("more than %d bytes before the login was complete", maxNegotiation)
		return 0, t.err
	}
	var b [1]byte
	if _, err := io.ReadFull(t.Conn, b[:]); err != nil {
		t.err = err
		return 0, err
	}
	t.read = append(t.read, b[0])
	return b[0], nil
}

func (t *tape) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("<?xml")) || bytes.HasPrefix(p, []byte("<stream")) {
		t.read = t.read[:0]
	}
	return t.Conn.Write(p)
}

// takeOver reads the last stream again, strictly framed, from its header to the answer about the resource, and goes on with what follows.
func (s *Session) takeOver(read []byte) error {
	s.rd = frame.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(read)), s.conn), s.c.Limits.shape())
	for {
		ev, err := s.rd.Next()
		switch {
		case err != nil:
			return err
		case ev.Kind == frame.KindHeader && ev.Header.ContentNS != frame.NSClient:
			return broken("its stream is not for clients")
		case ev.Kind == frame.KindElement && ev.Element.NS == frame.NSStreams && ev.Element.Name == "features":
			s.features = ev.Element
		case ev.Kind == frame.KindElement && ev.Element.Name == "iq":
			return nil
		case ev.Kind == frame.KindElement, ev.Kind == frame.KindEnd:
			return broken("something else than a resource")
		}
	}
}

// auth logs in by the strongest mechanism that both sides have.
type auth struct {
	c        *Config
	state    tls.ConnectionState
	exporter bool // the server announced the channel binding tls-exporter, XEP-0440
	offered  []string
	done     bool // the server proved that it knows the password, or got it (PLAIN)
	verified bool
}

// bindings reads which channel bindings a server can do. Without that list -PLUS is left alone: many a server announces it and can do only
// bindings that mellium can not, and a refusal would look like a wrong password.
func (a *auth) bindings() mellium.StreamFeature {
	return mellium.StreamFeature{
		Name: xml.Name{Space: nsCB, Local: "sasl-channel-binding"}, Prohibited: mellium.Authn,
		Parse: func(_ context.Context, d *xml.Decoder, start *xml.StartElement) (bool, any, error) {
			var list struct {
				Types []struct {
					Type string `xml:"type,attr"`
				} `xml:"urn:xmpp:sasl-cb:0 channel-binding"`
			}
			err := d.DecodeElement(&list, start)
			for _, t := range list.Types {
				a.exporter = a.exporter || t.Type == "tls-exporter"
			}
			return false, nil, err
		},
	}
}

func (a *auth) sasl() mellium.StreamFeature {
	password := a.c.Password
	if prepared, err := precis.OpaqueString.String(password); err == nil { // RFC 8265 §4.2
		password = prepared
	}
	f := mellium.SASL("", password, sasl.ScramSha256)
	f.Negotiate = func(ctx context.Context, session *mellium.Session, data any) (mellium.SessionState, io.ReadWriter, error) {
		a.offered, _ = data.([]string)
		if session.LocalAddr().Localpart() != a.c.Account.Local {
			return 0, nil, broken("it speaks to another account")
		}
		mask, rw, err := mellium.SASL("", password, a.mechanisms()...).Negotiate(ctx, session, data)
		a.done = err == nil && a.verified
		if err == nil && !a.done {
			err = broken("it did not prove that it knows the password")
		}
		return mask, rw, err
	}
	return f
}

// mechanisms in the order of preference. PLAIN comes last, and only over TLS with a certificate that was verified: there is no other here.
func (a *auth) mechanisms() []sasl.Mechanism {
	list := []sasl.Mechanism{a.guard(sasl.ScramSha256), a.guard(sasl.ScramSha1)}
	if a.exporter && a.state.Version >= tls.VersionTLS13 {
		list = append([]sasl.Mechanism{a.guard(sasl.ScramSha256Plus), a.guard(sasl.ScramSha1Plus)}, list...)
	}
	plain := sasl.Plain
	start := plain.Start
	plain.Start = func(n *sasl.Negotiator) (bool, []byte, any, error) {
		a.verified = true // by its certificate
		return start(n)
	}
	return append(list, plain)
}

// guard checks a server's challenge before mellium computes anything from it: its parser does not end on some, and the iterations are work for us.
func (a *auth) guard(m sasl.Mechanism) sasl.Mechanism {
	next := m.Next
	m.Next = func(n *sasl.Negotiator, challenge []byte, data any) (bool, []byte, any, error) {
		first := n.State()&sasl.StepMask == sasl.AuthTextSent
		if first {
			if err := checkChallenge(challenge, n.Nonce()); err != nil {
				return false, nil, nil, err
			}
		}
		more, resp, cache, err := next(n, challenge, data)
		switch {
		case err == nil && !first:
			a.verified = true
		case errors.Is(err, sasl.ErrAuthn): // RFC 5802 §5.1: the server's signature
			err = broken("it did not prove that it knows the password")
		}
		return more, resp, cache, err
	}
	return m
}

// checkChallenge wants what RFC 5802 §7, server-first-message, says.
func checkChallenge(challenge, nonce []byte) error {
	if len(challenge) > 8<<10 {
		return tooMuch("a SCRAM challenge of %d bytes", len(challenge))
	}
	seen := ""
	for part := range strings.SplitSeq(string(challenge), ",") {
		if len(part) < 3 || part[1] != '=' || strings.Contains(seen, part[:1]) {
			return broken("a SCRAM challenge that can not be read")
		}
		seen += part[:1]
		switch value := part[2:]; part[0] {
		case 'r':
			if rest, ok := strings.CutPrefix(value, string(nonce)); !ok || rest == "" {
				return broken("a SCRAM challenge for somebody else")
			}
		case 'i':
			if n, err := strconv.Atoi(value); err != nil || n < minIterations || n > maxIterations {
				return broken("SCRAM with %q iterations, where %d to %d are safe", value, minIterations, maxIterations)
			}
		}
	}
	if !strings.HasPrefix(seen, "rsi") {
		return broken("a SCRAM challenge that can not be read")
	}
	return nil
}

// explain turns mellium's errors into ours.
func (a *auth) explain(err error) error {
	var mine *Error
	var fromStream stream.Error
	var fromBind stanza.Error
	condition := ""
	switch {
	case errors.As(err, &mine):
		return mine
	case errors.As(err, &fromStream):
		return streamCondition(fromStream.Err, "")
	case errors.As(err, &fromBind):
		return &Error{Kind: TryLater, Text: "it gives no resource (" + string(fromBind.Condition) + ")"}
	case len(a.offered) > 0 && !a.common():
		return &Error{Kind: NoMechanism, Text: fmt.Sprintf("it offers %.200q", strings.Join(a.offered, " "))}
	}
	if f, ok := err.(interface{ TokenReader() xml.TokenReader }); ok { // mellium keeps the type to itself
		condition = conditionOf(f.TokenReader())
	}
	switch condition {
	case "":
		return err
	case "not-authorized", "credentials-expired":
		return &Error{Kind: WrongPassword, Text: text(err, condition)}
	case "account-disabled":
		return &Error{Kind: Disabled, Text: text(err, condition)}
	case "temporary-auth-failure", "aborted":
		return &Error{Kind: TryLater, Text: text(err, condition)}
	case "invalid-mechanism", "mechanism-too-weak", "encryption-required":
		return &Error{Kind: NoMechanism, Text: text(err, condition)}
	}
	return broken("it answered the login with %q", quoted(condition))
}

// text is what the server says beside the condition; nothing where it says nothing.
func text(err error, condition string) string {
	if said := err.Error(); said != condition {
		return quoted(said)
	}
	return ""
}

func (a *auth) common() bool {
	return slices.ContainsFunc(a.mechanisms(), func(m sasl.Mechanism) bool { return slices.Contains(a.offered, m.Name) })
}

// conditionOf is the name of the first element inside a SASL failure.
func conditionOf(r xml.TokenReader) string {
	for depth := 0; ; {
		tok, err := r.Token()
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; depth == 2 {
				return t.Name.Local
			}
		case xml.EndElement:
			depth--
		}
		if err != nil {
			return ""
		}
	}
}

// streamError reads a stream error (RFC 6120 §4.9).
func streamError(el *frame.Element) error {
	condition, said := "undefined-condition", ""
	for _, c := range el.Node().Children {
		switch {
		case c.NS != "urn:ietf:params:xml:ns:xmpp-streams":
		case c.Name == "text":
			said = c.Text
		default:
			condition = quoted(c.Name)
		}
	}
	return streamCondition(condition, said)
}

func streamCondition(condition, said string) *Error {
	e := &Error{Kind: Ended, Text: condition}
	switch condition {
	case "system-shutdown", "resource-constraint", "reset", "remote-connection-failed", "policy-violation":
		e.Kind = TryLater
	case "host-unknown", "host-gone":
		e.Kind = NameNotFound
	case "not-authorized":
		e.Kind = Disabled
	case "connection-timeout":
		e.Kind = TimedOut
	case "bad-format", "not-well-formed", "invalid-xml", "invalid-namespace", "unsupported-encoding", "restricted-xml":
		e.Kind = Broken
	}
	if said != "" {
		e.Text += " (" + quoted(said) + ")"
	}
	return e
}

// quoted bounds what another server says, and takes what could act on a terminal out of it.
func quoted(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
