package c2s

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The benchmarks measure a server in a process of its own: its CPU time and its memory, not the clients'. That process is this test binary,
// started with benchDir in its environment.
const benchDir = "PIBOX_C2S_BENCH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(benchDir); dir != "" {
		serveBench(dir)
		return
	}
	os.Exit(m.Run())
}

// serveBench serves until its standard input ends.
func serveBench(dir string) {
	t := &fatalTB{}
	b := newBox(t, dir, nil, Options{
		Connections: 1e6, ConnectionsPerAddress: 1e6, UnauthenticatedPerAddress: 1e6, ResourcesPerAccount: 1e6, StanzaRate: 1e9, ByteRate: 1 << 40,
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := os.WriteFile(filepath.Join(dir, "ca"), b.certs.AuthorityPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Println(ln.Addr())
	if err := b.server.Serve(ctx, ln, true); err != nil {
		t.Fatal(err)
	}
	b.stop(t)
}

// fatalTB ends the process at the first fault.
type fatalTB struct{ testing.TB }

func (*fatalTB) Helper()               {}
func (*fatalTB) Fatal(a ...any)        { panic(fmt.Sprint(a...)) }
func (*fatalTB) Error(a ...any)        { panic(fmt.Sprint(a...)) }
func (*fatalTB) Logf(string, ...any)   {}
func (*fatalTB) Cleanup(func())        {}
func (*fatalTB) Fatalf(string, ...any) {}

// benchServer is the other process.
type benchServer struct {
	address string
	pid     int
	config  *tls.Config
}

func startBench(b *testing.B) *benchServer {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), benchDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		b.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca"))
	if err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &benchServer{strings.TrimSpace(string(line[:n])), cmd.Process.Pid, &tls.Config{ServerName: "montague.example", RootCAs: pool}}
}

// cpu is the time the process has computed so far.
func (s *benchServer) cpu(b *testing.B) time.Duration {
	var total time.Duration
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range tasks {
		raw, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that ended
		}
		ns, _, _ := strings.Cut(string(raw), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(n)
	}
	return total
}

// memory is what the process holds of its own, in kB.
func (s *benchServer) memory(b *testing.B) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "RssAnon:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// wire is a client over TCP that waits for what it expects.
type wire struct {
	net.Conn
	buf bytes.Buffer
}

// until reads up to and with end, and returns what came before.
func (w *wire) until(end string) (string, error) {
	b := make([]byte, 8<<10)
	for {
		if before, _, ok := bytes.Cut(w.buf.Bytes(), []byte(end)); ok {
			w.buf.Next(len(before) + len(end))
			return string(before), nil
		}
		n, err := w.Read(b)
		if err != nil {
			return "", fmt.Errorf("%w; before it came %s", err, w.buf.String())
		}
		w.buf.Write(b[:n])
	}
}

func (w *wire) ask(text, end string) (string, error) {
	if _, err := io.WriteString(w.Conn, text); err != nil {
		return "", err
	}
	return w.until(end)
}

// login connects as romeo and binds a resource.
func (s *benchServer) login(resource string) (*wire, error) {
	nc, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: tls.Client(nc, s.config)}
	if err := w.authenticate(); err != nil {
		return nil, err
	}
	_, err = w.ask("<iq type='set' id='b'><bind xmlns='"+nsBind+"'><resource>"+resource+"</resource></bind></iq>", "</iq>")
	return w, err
}

// authenticate logs in, up to the features with binding.
func (w *wire) authenticate() error {
	const first = "n=romeo,r=clientnonce"
	if _, err := w.ask(header, "</stream:features>"); err != nil {
		return err
	}
	if _, err := w.ask("<auth xmlns='"+nsSASL+"' mechanism='SCRAM-SHA-256'>"+b64("n,,"+first)+"</auth>", "<challenge xmlns='"+nsSASL+"'>"); err != nil {
		return err
	}
	text, err := w.until("</challenge>")
	if err != nil {
		return err
	}
	challenge, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	final, _ := scram("SCRAM-SHA-256", "romeo", first, string(challenge), []byte("n,,"))
	_, err = w.ask("<response xmlns='"+nsSASL+"'>"+b64(final)+"</response>", "</success>")
	if err != nil {
		return err
	}
	_, err = w.ask(header, "</stream:features>")
	return err
}

// BenchmarkLogin: TLS 1.3, SCRAM-SHA-256, bind, and the end of the stream. Target: 1.0 ms of the server's CPU.
func BenchmarkLogin(b *testing.B) {
	s := startBench(b)
	before, n := s.cpu(b), 0
	for b.Loop() {
		w, err := s.login("r")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.ask("</stream:stream>", "</stream:stream>"); err != nil {
			b.Fatal(err)
		}
		_ = w.Close()
		n++
	}
	b.ReportMetric(float64((s.cpu(b)-before).Microseconds())/float64(n)/1000, "server-ms/login")
}

// withAndWithout runs a benchmark without stream management, and with it.
func withAndWithout(b *testing.B, run func(b *testing.B, prepare func(*wire) error)) {
	b.Run("plain", func(b *testing.B) { run(b, func(*wire) error { return nil }) })
	b.Run("managed", func(b *testing.B) {
		run(b, func(w *wire) error {
			_, err := w.ask("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "max='600'/>")
			return err
		})
	})
}

// BenchmarkIdle: sessions that do nothing; run it with -benchtime 1000x. Target: 40 kB each.
func BenchmarkIdle(b *testing.B) { withAndWithout(b, benchIdle) }

func benchIdle(b *testing.B, prepare func(*wire) error) {
	s := startBench(b)
	open := make([]*wire, 0, b.N)
	login := func(resource string) {
		w, err := s.login(resource)
		if err == nil {
			err = prepare(w)
		}
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, w)
	}
	for i := range 20 { // the first logins make what all share
		login("warm" + strconv.Itoa(i))
	}
	before := s.memory(b)
	b.ResetTimer()
	for i := range b.N {
		login(strconv.Itoa(i))
	}
	b.StopTimer()
	b.ReportMetric(float64(s.memory(b)-before)/float64(b.N), "kB/session")
	for _, w := range open {
		_ = w.Close()
	}
}

// BenchmarkRelay: messages of 280 bytes from one TLS session to another, as fast as they go. Target: 15 µs of the server's CPU.
func BenchmarkRelay(b *testing.B) { withAndWithout(b, benchRelay) }

func benchRelay(b *testing.B, prepare func(*wire) error) {
	s := startBench(b)
	from, err := s.login("from")
	if err != nil {
		b.Fatal(err)
	}
	to, err := s.login("to")
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(prepare(from), prepare(to)); err != nil {
		b.Fatal(err)
	}
	message := "<message type='chat' to='romeo@montague.example/to' id='ab12cd34'><body>" + strings.Repeat("x", 150) +
		"</body><request xmlns='urn:xmpp:receipts'/></message>"
	before := s.cpu(b)
	b.ResetTimer()
	done, window := make(chan error, 1), make(chan struct{}, 500) // the outbox of one who reads this fast is not full
	go func() { done <- count(to, b.N, window) }()
	for range b.N {
		window <- struct{}{}
		if _, err := io.WriteString(from, message); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((s.cpu(b)-before).Nanoseconds())/float64(b.N)/1000, "server-µs/message")
}

// count reads n messages, and acknowledges them where it is asked to.
func count(w *wire, n int, window <-chan struct{}) error {
	buf, tail, got := make([]byte, 64<<10), []byte(nil), 0
	for got < n {
		m, err := w.Read(buf)
		if err != nil {
			return errors.Join(err, fmt.Errorf("%d messages are missing", n-got))
		}
		all := append(tail, buf[:m]...)
		came := bytes.Count(all, []byte("</message>"))
		for range came {
			<-window
		}
		got += came
		if bytes.HasSuffix(all, requestAck) {
			if _, err := fmt.Fprintf(w, "<a xmlns='urn:xmpp:sm:3' h='%d'/>", got); err != nil {
				return err
			}
		}
		tail = bytes.Clone(all[max(0, len(all)-len("</message>")+1):])
	}
	return nil
}
