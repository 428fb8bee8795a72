package s2s

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
	"pibox/internal/xmpp/sm"
)

// The transcripts in testdata show what one connection carries, byte for byte but for what may differ. The steps:
//
//	box montague.example with dialback          the box under test and its options; every domain that has no box is the peer's
//	also capulet.example                        another box, reached by a route, e.g. to be asked for dialback
//	peer shows capulet.example [expired|self-signed|stranger|nothing]     the certificate of the peer, in both directions
//	peer connects [direct]                      a connection from the peer; "direct": to the listener with direct TLS
//	box connects                                the box has connected to the peer
//	TLS                                         the handshake; "TLS fails": it does not succeed
//	peer opens from='x' to='y'                  a stream header, with these attributes beside the usual ones
//	box opens from='y' to='x'
//	peer comes with TLS                         connects direct, TLS, both open, EXTERNAL is offered; ", EXTERNAL is not offered"
//	peer comes authenticated                    the same, and authenticates by EXTERNAL
//	peer sends <xml/>                           as it stands, also on the lines below
//	box sends <xml/>                            an attribute or text * is any, $name keeps an attribute
//	box closes                                  end of the stream, and of the connection after the peer's
//	peer closes
//	peer hangs up                               closes the connection without a word
//	box says <message/>                         a user of the box sends it
//	routed m1 by certificate; m2 by dialback    what reached the router, as box.hears
//	nothing is routed
//	box connects and is offered <sm/>           authenticates by EXTERNAL over direct TLS, and gets these features
//	box hangs up
//	box owes <message/>                         it stores and sends a message
//	nothing is owed
//	30s pass
type script struct {
	t      *testing.T
	n      *testNet
	box    *box
	boxes  []*box
	cert   *tls.Certificate
	conns  chan net.Conn // to the peer
	conn   net.Conn
	r      *frame.Reader
	direct bool
	dialed bool // the box connected
	values map[string]string
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(f, "testdata/"), ".txt")
		for i, one := range strings.Split(string(text), "\n---\n") {
			title, _, _ := strings.Cut(strings.TrimLeft(one, "# \n"), "\n")
			t.Run(fmt.Sprintf("%s/%d %s", name, i+1, title), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { runScript(t, one) })
			})
		}
	}
}

func runScript(t *testing.T, text string) {
	s := &script{t: t, n: newNet(t), conns: make(chan net.Conn, 8), values: map[string]string{}}
	defer s.stop()
	s.cert = s.n.ca.issue(t, "capulet.example")
	if err := s.run(text); err != nil {
		t.Fatal(err)
	}
}

func (s *script) run(text string) error {
	for _, step := range scriptSteps(text) {
		head, xml := step, ""
		if i := strings.IndexAny(step, "<"); i >= 0 {
			head, xml = step[:i], step[i:]
		}
		head = strings.TrimSpace(strings.ReplaceAll(head, "\n", " "))
		if err := s.do(head, xml); err != nil {
			return fmt.Errorf("%s\n%w", strings.TrimSpace(step), err)
		}
	}
	return nil
}

// scriptSteps joins a step with its indented lines.
func scriptSteps(text string) []string {
	var steps []string
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#':
		case line[0] == ' ':
			steps[len(steps)-1] += "\n" + strings.TrimSpace(line)
		default:
			steps = append(steps, line)
		}
	}
	return steps
}

func (s *script) stop() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	for _, b := range s.boxes {
		b.stop()
	}
}

func (s *script) do(head, xml string) error {
	word, rest, _ := strings.Cut(head, " ")
	switch {
	case word == "box" && s.box == nil:
		s.start(rest)
	case word == "also":
		s.boxes = append(s.boxes, s.n.box(rest))
	case strings.HasPrefix(head, "peer shows"):
		return s.show(strings.Fields(head)[2:])
	case strings.HasPrefix(head, "peer connects"):
		s.connect(strings.HasSuffix(head, "direct"))
	case strings.HasPrefix(head, "peer comes "):
		return s.come(strings.TrimPrefix(head, "peer comes "))
	case head == "box connects":
		return s.accept()
	case head == "box connects and is offered":
		return s.isOffered(xml)
	case head == "box hangs up":
		return s.hungUp()
	case head == "box owes":
		synctest.Wait()
		s.box.owe(xmpp.Make([]byte(xml)))
	case head == "nothing is owed":
		s.box.owing()
	case head == "TLS", head == "TLS fails":
		return s.tls(head == "TLS fails")
	case strings.HasPrefix(head, "peer opens"):
		_, err := io.WriteString(s.conn, peerHeader(strings.TrimPrefix(head, "peer opens")))
		return err
	case strings.HasPrefix(head, "box opens"):
		return s.boxOpens(strings.TrimPrefix(head, "box opens"))
	case head == "peer sends":
		return s.peerSends(xml)
	case head == "box sends":
		return s.receive(xml)
	case head == "box closes":
		return s.closes()
	case head == "peer closes":
		_, err := io.WriteString(s.conn, streamEnd)
		return err
	case head == "peer hangs up":
		return s.conn.Close()
	case head == "box says":
		synctest.Wait()
		s.box.Send(xmpp.Make([]byte(xml)))
	case word == "routed":
		s.box.hears(strings.Split(rest, "; ")...)
	case head == "nothing is routed":
		s.box.hears()
	case strings.HasSuffix(head, " pass"):
		d, err := time.ParseDuration(word)
		time.Sleep(d) // the bubble's clock
		return err
	default:
		return errors.New("not understood")
	}
	return nil
}

func (s *script) peerSends(xml string) error {
	if strings.HasPrefix(xml, "<success") {
		s.r.Restart(s.conn)
	}
	_, err := io.WriteString(s.conn, s.fill(xml))
	return err
}

func (s *script) start(line string) {
	domains, options, _ := strings.Cut(line, " with ")
	s.box = s.n.box(domains, func(o *Options) {
		o.Resolver = "10.9.9.9:53"
		dial := o.Dial
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "10.1.1.1:") {
				return dial(ctx, network, address)
			}
			ours, theirs := pipe(64<<10, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:1")), net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
			s.conns <- theirs
			return ours, nil
		}
		for option := range strings.FieldsSeq(options) {
			name, value, _ := strings.Cut(option, "=")
			switch name {
			case "dialback":
				o.Dialback = true
			case "deny":
				o.Deny = strings.Split(value, ",")
			case "secret":
				o.Secret = []byte(value)
			case "direct":
				s.direct = true
			case "limit":
				o.ConnectionsPerAddress = 1
			default:
				s.t.Fatalf("no option %s", name)
			}
		}
		for _, d := range []string{"capulet.example", "verona.example"} {
			o.Routes = append(o.Routes, Route{Domain: d, Address: "10.1.1.1:5269", Direct: s.direct})
		}
	})
	s.boxes = append(s.boxes, s.box)
}

func (s *script) show(how []string) error {
	domain := how[0]
	switch {
	case domain == "nothing":
		s.cert = nil
	case len(how) == 1:
		s.cert = s.n.ca.issue(s.t, domain)
	case how[1] == "expired":
		s.cert = s.n.ca.issue(s.t, domain, expired)
	case how[1] == "self-signed":
		s.cert = selfSigned(s.t, domain)
	case how[1] == "stranger":
		s.cert = newAuthority(s.t).issue(s.t, domain)
	default:
		return errors.New("no such certificate")
	}
	return nil
}

func (s *script) connect(direct bool) {
	here := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("10.1.1.1:40000"))
	mine, theirs := pipe(64<<10, here, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s.box.addr)))
	s.box.Server.accept(theirs, direct)
	s.direct = direct
	s.use(mine)
}

// come runs the steps that most transcripts begin with.
func (s *script) come(how string) error {
	const open = "peer opens from='capulet.example' to='montague.example'\nbox opens from='montague.example' to='capulet.example' id='*'\nbox sends <stream:features>" +
		"<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
	const bidi, end = "<bidi xmlns='urn:xmpp:features:bidi'/>", "</stream:features>\n"
	const external = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
	const sm = "<sm xmlns='urn:xmpp:sm:3'/>"
	steps := "peer connects direct\nTLS\n"
	switch how {
	case "with TLS":
		steps += open + bidi + external + end
	case "with TLS, EXTERNAL is not offered":
		steps += open + bidi + end
	case "authenticated":
		steps += open + bidi + external + end + "peer sends <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>\n" +
			"box sends <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\n" + open + sm + end
	default:
		return errors.New("not understood")
	}
	return s.run(steps)
}

func (s *script) isOffered(features string) error {
	const open = "box opens from='montague.example' to='capulet.example'\npeer opens from='capulet.example' to='montague.example' id='s1'\n"
	const external = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
	return s.run("box connects\nTLS\n" + open + "peer sends <stream:features>" + external + "</stream:features>\n" +
		"box sends <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>bW9udGFndWUuZXhhbXBsZQ==</auth>\n" +
		"peer sends <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\n" + open + "peer sends <stream:features>" + features + "</stream:features>")
}

// hungUp reads to the end of a connection that the box closed without a word.
func (s *script) hungUp() error {
	for {
		ev, err := s.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the box is still there")
		case err != nil:
			return nil
		case ev.Kind != frame.KindSpace && (ev.Kind != frame.KindElement || ev.Element.NS != sm.NS):
			return fmt.Errorf("the box sent %+v", ev)
		}
	}
}

func (s *script) use(c net.Conn) {
	s.conn = c
	s.r = frame.NewReader(c, frame.Limits{})
}

func (s *script) accept() error {
	synctest.Wait()
	select {
	case c := <-s.conns:
		s.use(c)
		s.dialed = true
		return nil
	default:
		return errors.New("the box did not connect")
	}
}

func (s *script) tls(fails bool) error {
	var c *tls.Conn
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "montague.example", ClientAuth: tls.RequireAnyClientCert}
	if s.cert != nil {
		cfg.Certificates = []tls.Certificate{*s.cert}
	}
	if s.direct {
		cfg.NextProtos = []string{"xmpp-server"}
	}
	if s.dialed {
		c = tls.Server(s.conn, cfg)
	} else {
		c = tls.Client(s.conn, cfg)
	}
	s.conn = c
	s.r.Restart(c)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	err := c.HandshakeContext(context.Background())
	if err == nil && fails {
		_, err = c.Read(make([]byte, 1)) // a client's refusal comes behind the handshake of TLS 1.3
	}
	if fails != (err != nil) {
		return fmt.Errorf("the handshake ended with %v", err)
	}
	if fails {
		return nil
	}
	if s.direct && c.ConnectionState().NegotiatedProtocol != "xmpp-server" {
		return errors.New("ALPN was not used")
	}
	return nil
}

// peerHeader is a header with these attributes; those that are named without a value are left out of the usual ones.
func peerHeader(attrs string) string {
	usual := ""
	for _, a := range []string{"xmlns='jabber:server'", "xmlns:db='jabber:server:dialback'", "version='1.0'"} {
		name, _, _ := strings.Cut(a, "=")
		if !strings.Contains(" "+attrs, " "+name+"=") {
			usual += " " + a
		}
	}
	return "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'" + usual + attrs + ">"
}

func (s *script) next() (frame.Event, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	ev, err := s.r.Next()
	return ev, err
}

func (s *script) boxOpens(attrs string) error {
	ev, err := s.next()
	if err != nil {
		return err
	}
	if ev.Kind != frame.KindHeader {
		return fmt.Errorf("the box sent %v", ev)
	}
	h := ev.Header
	if h.ContentNS != xmpp.NSServer || h.Version != "1.0" || h.Prefixes["db"] != nsDialback {
		return fmt.Errorf("the header is %+v", h)
	}
	el, err := frame.Parse([]byte("<x "+attrs+"/>"), "", frame.Limits{})
	if err != nil {
		return err
	}
	for name, have := range map[string]string{"from": h.From, "to": h.To, "id": h.ID} {
		if want := el.Attr(name); want == "*" && have != "" {
			s.values["$"+name] = have
		} else if want != have && (name != "id" || el.HasAttr("id")) {
			return fmt.Errorf("the header has %s=%q, expected %q", name, have, want)
		}
	}
	return nil
}

func (s *script) receive(xml string) error {
	all, err := frame.Parse([]byte("<all xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback'>"+s.fill(xml)+"</all>"), xmpp.NSServer, frame.Limits{})
	if err != nil {
		return err
	}
	for _, want := range all.Node().Children {
		ev, err := s.next()
		for err == nil && ev.Kind == frame.KindSpace && want.Name != "space" {
			ev, err = s.next()
		}
		switch {
		case err != nil:
			return fmt.Errorf("instead of <%s>: %w", want.Name, err)
		case want.Name == "space" && ev.Kind == frame.KindSpace:
			continue
		case ev.Kind != frame.KindElement:
			return fmt.Errorf("instead of <%s>: %+v", want.Name, ev)
		}
		if diff := differ(want, ev.Element.Node(), s.values); diff != "" {
			return fmt.Errorf("the box sent %s: %s", ev.Element.Raw, diff)
		}
		if want.NS == nsSASL && want.Name == "success" {
			s.r.Restart(s.conn)
		}
	}
	return nil
}

// differ says in what have is not as wanted; a text of stream errors may be left out.
func differ(want, have *frame.Node, values map[string]string) string {
	if want.Name != have.Name || want.NS != have.NS {
		return fmt.Sprintf("{%s}%s instead of {%s}%s", have.NS, have.Name, want.NS, want.Name)
	}
	for _, a := range want.Attrs {
		got := have.Attr(a.Name)
		if _, known := values[a.Value]; a.Value != "" && a.Value[0] == '$' && !known {
			values[a.Value] = got
			continue
		}
		if got != a.Value && a.Value != "*" || got == "" {
			return fmt.Sprintf("<%s> has %s=%q", have.Name, a.Name, got)
		}
	}
	if len(have.Attrs) > len(want.Attrs) {
		return fmt.Sprintf("<%s> has more attributes", have.Name)
	}
	if w := strings.TrimSpace(want.Text); w != "*" && w != strings.TrimSpace(have.Text) {
		return fmt.Sprintf("<%s> holds %q", have.Name, have.Text)
	}
	children := have.Children
	if n := len(children); n > len(want.Children) && children[n-1].Name == "text" {
		children = children[:n-1]
	}
	if len(children) != len(want.Children) {
		return fmt.Sprintf("<%s> has %d children", have.Name, len(children))
	}
	for i, w := range want.Children {
		if diff := differ(w, children[i], values); diff != "" {
			return diff
		}
	}
	return ""
}

func (s *script) closes() error {
	ev, err := s.next()
	for err == nil && ev.Kind == frame.KindSpace {
		ev, err = s.next()
	}
	if err != nil || ev.Kind != frame.KindEnd {
		return fmt.Errorf("the box did not end the stream: %+v %v", ev, err)
	}
	_, _ = io.WriteString(s.conn, streamEnd)
	_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := s.conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the box did not end the connection: %d %v", n, err)
	}
	return nil
}

func (s *script) fill(xml string) string {
	for name, v := range s.values {
		xml = strings.ReplaceAll(xml, "'"+name+"'", "'"+v+"'")
	}
	return xml
}
