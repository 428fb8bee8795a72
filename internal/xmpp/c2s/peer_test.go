package c2s

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// peer is a client's end.
type peer struct {
	raw    net.Conn
	in     *pump // bytes of the connection
	reader *pump // bytes of the stream: in, or those within TLS
	writer io.Writer
	state  tls.ConnectionState
	values map[string]string
}

func (p *peer) send(text string) error {
	_, err := io.WriteString(p.writer, text)
	synctest.Wait()
	return err
}

func (p *peer) fill(text string) string {
	for name, v := range p.values {
		text = strings.ReplaceAll(text, "$"+name, v)
	}
	text = strings.ReplaceAll(text, "SPOIL", "<iq type='set' id='spoil' to='montague.example'><spoil xmlns='urn:test'/></iq>")
	text = strings.ReplaceAll(text, "TELL", "<iq type='set' id='tell' to='montague.example'><tell xmlns='urn:test'/></iq>")
	text = strings.ReplaceAll(text, "STORE", "<iq type='set' id='store' to='montague.example'><store xmlns='urn:test'/></iq>")
	if name, n, ok := strings.Cut(text, "REPEAT "); ok { // C: before REPEAT n x
		count, what, _ := strings.Cut(n, " ")
		times, _ := strconv.Atoi(count)
		what = strings.ReplaceAll(what, "SPACE", " ")
		return name + strings.Repeat(what, times)
	}
	return text
}

func (p *peer) expect(pattern string) error {
	have := string(p.reader.peek())
	switch pattern {
	case "nothing":
		if have != "" {
			return fmt.Errorf("the server sent\n  %s", have)
		}
		return nil
	case "ANYTHING":
		p.reader.take(len(have))
		return nil
	case "closed":
		if have != "" || !p.reader.ended() {
			return fmt.Errorf("not closed; the server sent\n  %q", have)
		}
		return nil
	case "STREAM":
		pattern = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='*' from='montague.example' version='1.0' xml:lang='en'>"
	}
	for name, v := range p.values {
		pattern = strings.ReplaceAll(pattern, "$"+name, v)
	}
	var names []string
	expr := regexp.MustCompile(`\\\((\w+)\\\*\\\)|\\\*`).ReplaceAllStringFunc(regexp.QuoteMeta(pattern), func(m string) string {
		names = append(names, strings.Trim(m, `\()*`))
		return "(.*?)"
	})
	m := regexp.MustCompile("^(?s:" + expr + ")").FindStringSubmatch(have)
	if m == nil {
		return fmt.Errorf("the server sent\n  %s", have)
	}
	for i, name := range names {
		if name != "" {
			p.values[name] = m[i+1]
		}
	}
	p.reader.take(len(m[0]))
	return nil
}

func (p *peer) startTLS(b *box, words []string) error {
	config := &tls.Config{
		ServerName: "montague.example", RootCAs: b.certs.Pool(), NextProtos: []string{"xmpp-client"},
		Time: func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }, // a bubble's clock starts in 2000
	}
	for _, w := range words {
		switch w {
		case "1.2":
			config.MaxVersion = tls.VersionTLS12
		case "1.1":
			config.MinVersion, config.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		case "h2":
			config.NextProtos = []string{"h2"}
		case "DIRECT", "TLS", "unnamed":
		default:
			config.ServerName = w
		}
	}
	if slices.Contains(words, "unnamed") {
		unnamed(config)
	}
	if left := p.in.peek(); len(left) > 0 {
		return fmt.Errorf("before TLS the server sent\n  %s", left)
	}
	tc := tls.Client(p.raw, config)
	if err := tc.Handshake(); err != nil {
		return err
	}
	p.state, p.writer, p.reader = tc.ConnectionState(), tc, newPump(tc)
	synctest.Wait()
	return nil
}

// unnamed sends no name; the certificate has to be for the one that would have been sent.
func unnamed(config *tls.Config) {
	want := config.ServerName
	config.ServerName, config.InsecureSkipVerify = "", true
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		return cs.PeerCertificates[0].VerifyHostname(want)
	}
}

// pumped is a connection with the buffers that a kernel gives it, without limits: it is read by a pump, and writing to it never waits.
type pumped struct {
	net.Conn
	in   *pump
	out  chan []byte
	done chan struct{}
}

func newPumped(nc net.Conn) *pumped {
	p := &pumped{nc, newPump(nc), make(chan []byte, 1000), make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-p.out:
				_, _ = nc.Write(b)
			case <-p.done:
				return
			}
		}
	}()
	return p
}

func (p *pumped) Read(b []byte) (int, error) { return p.in.Read(b) }

func (p *pumped) Write(b []byte) (int, error) {
	select {
	case p.out <- bytes.Clone(b):
		return len(b), nil
	case <-p.done:
		return 0, net.ErrClosed
	}
}

func (p *pumped) Close() error {
	select {
	case <-p.done:
		return nil
	default:
	}
	close(p.done)
	p.in.pause(false)
	return p.Conn.Close()
}

// restart is the same box on the same disk.
func (k *talk) restart(how string) error {
	switch how {
	case "crash":
		k.box.crash(k.t)
	default:
		k.box.stop(k.t)
	}
	if how == " with another password" {
		if err := k.box.changeOffline(); err != nil {
			return err
		}
	}
	synctest.Wait()
	for _, p := range k.peers {
		_ = p.raw.Close()
	}
	k.peers = map[string]*peer{}
	k.box = newBox(k.t, k.dir, slog.New(slog.DiscardHandler), k.options)
	return nil
}

func (p *peer) bound(b *box, resource string) error {
	if err := p.loggedIn(b); err != nil {
		return err
	}
	err := p.send("<iq type='set' id='b'><bind xmlns='" + nsBind + "'><resource>" + resource + "</resource></bind></iq>")
	if err != nil {
		return err
	}
	return p.expect("<iq type='result' id='b'><bind xmlns='" + nsBind + "'><jid>(jid*)</jid></bind></iq>")
}

// loggedIn does all from the header to the features with binding.
func (p *peer) loggedIn(b *box) error {
	for _, step := range []func() error{
		func() error { return p.send(header) },
		func() error { return p.expect("STREAM") },
		func() error { return p.expect("<stream:features>*</stream:features>") },
		func() error { return p.send("<starttls xmlns='" + nsTLS + "'/>") },
		func() error { return p.expect("<proceed xmlns='" + nsTLS + "'/>") },
		func() error { return p.startTLS(b, nil) },
		func() error { return p.send(header) },
		func() error { return p.expect("STREAM") },
		func() error { return p.expect("<stream:features>*</stream:features>") },
		func() error { return p.login([]string{"romeo", "romeo"}) },
		func() error { return p.send(header) },
		func() error { return p.expect("STREAM") },
		func() error { return p.expect("<stream:features>*</stream:features>") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// login is SCRAM as a client does it; the failure, if one comes, is left to be read.
func (p *peer) login(words []string) error {
	user, password, mechanism := words[0], words[1], "SCRAM-SHA-256"
	if len(words) > 2 {
		mechanism = words[2]
	}
	gs2, bound := "n,,", []byte(nil)
	if strings.HasSuffix(mechanism, "-PLUS") {
		gs2 = "p=tls-exporter,,"
		var err error
		if bound, err = p.state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err != nil {
			return err
		}
	}
	first := "n=" + user + ",r=clientnonce"
	if err := p.send("<auth xmlns='" + nsSASL + "' mechanism='" + mechanism + "'>" + b64(gs2+first) + "</auth>"); err != nil {
		return err
	}
	if p.expect("<challenge xmlns='"+nsSASL+"'>(challenge*)</challenge>") != nil {
		return nil
	}
	challenge, err := base64.StdEncoding.DecodeString(p.values["challenge"])
	if err != nil {
		return err
	}
	final, signature := scram(mechanism, password, first, string(challenge), append([]byte(gs2), bound...))
	if err := p.send("<response xmlns='" + nsSASL + "'>" + b64(final) + "</response>"); err != nil {
		return err
	}
	if p.expect("<success xmlns='"+nsSASL+"'>(success*)</success>") != nil {
		return nil
	}
	if p.values["success"] != b64("v="+signature) {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}

func scram(mechanism, password, first, challenge string, binding []byte) (final, signature string) {
	newHash, size := sha256.New, sha256.Size
	if strings.HasPrefix(mechanism, "SCRAM-SHA-1") {
		newHash, size = sha1.New, sha1.Size
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(newHash, key)
		_, _ = io.WriteString(h, text)
		return h.Sum(nil)
	}
	f := strings.Split(challenge, ",")
	salt, _ := base64.StdEncoding.DecodeString(f[1][2:])
	iterations, _ := strconv.Atoi(f[2][2:])
	salted := saltedPassword(newHash, password, salt, iterations, size)
	final = "c=" + base64.StdEncoding.EncodeToString(binding) + "," + f[0]
	message := first + "," + challenge + "," + final
	clientKey := mac(salted, "Client Key")
	stored := newHash()
	stored.Write(clientKey)
	proof := make([]byte, size)
	subtle.XORBytes(proof, clientKey, mac(stored.Sum(nil), message))
	return final + ",p=" + base64.StdEncoding.EncodeToString(proof), base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), message))
}

func saltedPassword(h func() hash.Hash, password string, salt []byte, iterations, size int) []byte {
	key, err := pbkdf2.Key(h, password, salt, iterations, size)
	if err != nil {
		panic(err)
	}
	return key
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// pump reads all the time, so that the other side's writes never wait.
type pump struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	err     error
	more    chan struct{} // closed when something came
	running chan struct{} // nil, or blocks the pump until it is closed
}

func newPump(r io.Reader) *pump {
	p := &pump{more: make(chan struct{})}
	go func() {
		b := make([]byte, 64<<10)
		for {
			p.mu.Lock()
			paused := p.running
			p.mu.Unlock()
			if paused != nil {
				<-paused
			}
			n, err := r.Read(b)
			p.mu.Lock()
			p.buf.Write(b[:n])
			p.err = err
			close(p.more)
			p.more = make(chan struct{})
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *pump) pause(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.running = make(chan struct{})
		return
	}
	if p.running != nil {
		close(p.running)
		p.running = nil
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		if p.buf.Len() > 0 {
			defer p.mu.Unlock()
			return p.buf.Read(b)
		}
		err, more := p.err, p.more
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
		<-more
	}
}

func (p *pump) peek() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.buf.Bytes())
}

func (p *pump) take(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Next(n)
}

func (p *pump) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

func unb64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
