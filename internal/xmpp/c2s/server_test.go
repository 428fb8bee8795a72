package c2s

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pibox/internal/xmpp"
)

// dialTLS logs a client in over TCP with direct TLS, as wire of the benchmarks does.
func dialTLS(t testing.TB, b *box, address, resource string, cache tls.ClientSessionCache) *wire {
	t.Helper()
	s := &benchServer{address: address, config: &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool(), ClientSessionCache: cache}}
	w, err := s.login(resource)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	_ = w.SetDeadline(time.Now().Add(20 * time.Second))
	return w
}

// A client that goes on sending gets the stream error all the same: the socket is not closed with something unread.
func TestErrorArrives(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{Stanza: 20_000, StanzaBeforeLogin: 10_000})
	t.Cleanup(func() { b.stop(t) })
	address := b.listen(t, true)
	for range 10 {
		w := dialTLS(t, b, address, "r", nil)
		go func() {
			_, _ = io.WriteString(w.Conn, "<message><body>"+strings.Repeat("x", 500_000))
		}()
		got, err := w.until("</stream:stream>")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(got, "<stream:error><policy-violation ") {
			t.Fatalf("the server sent %s", got)
		}
	}
}

// A resumed TLS session shows no certificate; what is bound to the connection is still sound, what is bound to the certificate is left out.
func TestResumedTLS(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{})
	t.Cleanup(func() { b.stop(t) })
	address := b.listen(t, true)
	cache := tls.NewLRUClientSessionCache(4)
	dialTLS(t, b, address, "first", cache)
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	tc := tls.Client(nc, &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool(), ClientSessionCache: cache})
	w := &wire{Conn: tc}
	defer func() { _ = w.Close() }()
	features, err := w.ask(header, "</stream:features>")
	if err != nil {
		t.Fatal(err)
	}
	if !tc.ConnectionState().DidResume {
		t.Fatal("the session was not resumed")
	}
	if !strings.Contains(features, "'tls-exporter'") || strings.Contains(features, "end-point") {
		t.Errorf("the server offers %s", features)
	}
	p := &peer{raw: w, writer: w, state: tc.ConnectionState(), values: map[string]string{}}
	gs2, first := "p=tls-exporter,,", "n=romeo,r=clientnonce"
	if _, err := w.ask("<auth xmlns='"+nsSASL+"' mechanism='SCRAM-SHA-256-PLUS'>"+b64(gs2+first)+"</auth>", "<challenge xmlns='"+nsSASL+"'>"); err != nil {
		t.Fatal(err)
	}
	challenge, err := w.until("</challenge>")
	if err != nil {
		t.Fatal(err)
	}
	bound, err := p.state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	if err != nil {
		t.Fatal(err)
	}
	final, _ := scram("SCRAM-SHA-256-PLUS", "romeo", first, unb64(t, challenge), append([]byte(gs2), bound...))
	if _, err := w.ask("<response xmlns='"+nsSASL+"'>"+b64(final)+"</response>", "</success>"); err != nil {
		t.Fatal(err)
	}
}

// Many clients take the same resource from each other: one has it in the end, and every other one was told.
func TestConflictRace(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{})
	t.Cleanup(func() { b.stop(t) })
	address := b.listen(t, true)
	const clients = 8
	results := make(chan error, clients)
	left := make(chan *wire, clients)
	for range clients {
		go func() {
			s := &benchServer{address: address, config: &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool()}}
			w, err := s.login("orchard")
			if err != nil {
				results <- err
				left <- nil
				return
			}
			left <- w
			text, err := w.until("</stream:stream>")
			if err == nil && !strings.Contains(text, "<conflict ") {
				err = fmt.Errorf("the server sent %s", text)
			}
			results <- err
		}()
	}
	for range clients - 1 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	var wires []*wire
	for range clients { // the losers are told before the last one is bound
		wires = append(wires, <-left)
	}
	if n := len(b.router.Sessions(romeo())); n != 1 {
		t.Errorf("%d sessions", n)
	}
	for _, w := range wires {
		if w != nil {
			_ = w.Close()
		}
	}
	<-results
}

// What a lost connection did not take comes back, in order.
func TestUnsent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := &talk{t: t, dir: dir, peers: map[string]*peer{}, values: map[string]string{}}
		k.box = newBox(t, dir, slog.New(slog.DiscardHandler), Options{})
		defer k.end()
		var got []string
		k.box.router.OnUnsent(func(s *xmpp.Session, unsent []*xmpp.Stanza) {
			if k.box.router.SessionOf(s.JID) != nil {
				t.Error("the session is still there")
			}
			for _, st := range unsent {
				got = append(got, st.ID)
			}
		})
		for _, line := range []string{"C: BOUND orchard", "C2: BOUND balcony"} {
			if err := k.do(line); err != nil {
				t.Fatal(err)
			}
		}
		s := k.box.router.SessionOf(romeo().With("orchard"))
		send := func(id string, size int) bool {
			return s.Deliver(xmpp.Make([]byte("<message id='" + id + "'><body>" + strings.Repeat("x", size) + "</body></message>")))
		}
		if !send("1", 10) {
			t.Fatal("not taken")
		}
		if err := k.do("S: <message *</message>"); err != nil {
			t.Fatal(err)
		}
		if err := k.do("C: DEAF"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"2", "3", "4"} { // a pipe has no buffer, but the pump reads once more
			if !send(id, 200_000) {
				t.Fatal("not taken")
			}
		}
		synctest.Wait()
		if err := k.do("C: GONE"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // virtual
		if strings.Join(got, " ") != "2 3 4" {
			t.Errorf("came back: %v", got)
		}
		if send("5", 1) {
			t.Error("a lost connection takes a stanza")
		}
	})
}

// What other servers bring until their streams have ended is in the sessions that are saved.
func TestBroughtBeforeSaved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := &talk{t: t, dir: dir, peers: map[string]*peer{}, values: map[string]string{}}
		defer k.end()
		do := func(lines ...string) {
			t.Helper()
			for _, line := range lines {
				if err := k.do(line); err != nil {
					t.Fatalf("%s\n%v", line, err)
				}
			}
		}
		do("C: BOUND orchard", "C: <enable xmlns='urn:xmpp:sm:3' resume='true'/>", "S: <enabled *id='(id*)' *'/>")
		s := k.box.router.SessionOf(romeo().With("orchard"))
		err := k.box.server.Shutdown(t.Context(), func(context.Context) {
			if !s.Deliver(xmpp.Make([]byte("<message id='late'/>"))) {
				t.Error("not taken")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		do("restart", "C: LOGGEDIN", "C: <resume xmlns='urn:xmpp:sm:3' h='0' previd='$id'/>",
			"S: <resumed xmlns='urn:xmpp:sm:3' h='0' previd='*'/><message id='late'/><r xmlns='urn:xmpp:sm:3'/>")
	})
}

// A fault of the program on one connection ends that one.
func TestPanic(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{})
	t.Cleanup(func() { b.stop(t) })
	address := b.listen(t, true)
	b.router.StreamFeature(func() []byte { panic("a fault") })
	s := &benchServer{address: address, config: &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool()}}
	if _, err := s.login("r"); err == nil || !strings.Contains(err.Error(), "internal-server-error") {
		t.Errorf("the client got %v", err)
	}
}

// Each line of the log names the connection, and no line a secret.
func TestLog(t *testing.T) {
	var log lockedBuffer
	b := newBox(t, t.TempDir(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Options{})
	address := b.listen(t, true)
	w := dialTLS(t, b, address, "orchard", nil)
	if _, err := w.ask("<message to='romeo@montague.example'><body>secret words</body></message>", "</message>"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ask("</stream:stream>", "</stream:stream>"); err != nil {
		t.Fatal(err)
	}
	b.stop(t)
	text := log.String()
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if !strings.Contains(line, " conn=c1") {
			t.Errorf("no connection: %s", line)
		}
	}
	for _, secret := range []string{"secret words", "clientnonce", "StoredKey", "p="} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log:\n%s", secret, text)
		}
	}
	for _, event := range []string{"msg=login", `msg="client gone"`} {
		if strings.Count(text, event) != 1 {
			t.Errorf("%s is not in the log:\n%s", event, text)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// failing is a listener out of file descriptors, at first.
type failing struct {
	net.Listener
	times int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.times--; f.times >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptGoesOn(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{})
	t.Cleanup(func() { b.stop(t) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(context.Background(), &failing{ln, 3}, true) }()
	dialTLS(t, b, ln.Addr().String(), "r", nil)
	if err := b.server.Shutdown(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := b.server.Serve(context.Background(), ln, true); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("serving after the end: %v", err)
	}
}

// A store that can not be read is no wrong password, and counts as none.
func TestAccountsUnavailable(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{AuthTimeout: time.Second}) // the client waits for a challenge
	address := b.listen(t, true)
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	s := &benchServer{address: address, config: &tls.Config{ServerName: "montague.example", RootCAs: b.certs.Pool()}}
	if _, err := s.login("r"); err == nil || !strings.Contains(err.Error(), "temporary-auth-failure") {
		t.Errorf("the client got %v", err)
	}
	b.stop(t)
}
