package c2s

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startChild runs this test binary as a server on a folder.
func startChild(t *testing.T, dir string) (s *benchServer, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), benchDir+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = in.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &benchServer{strings.TrimSpace(string(line[:n])), cmd.Process.Pid, &tls.Config{ServerName: "montague.example", RootCAs: pool}}, kill
}

// dial logs in and stops before binding.
func (s *benchServer) dial(t *testing.T) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	w := &wire{Conn: tls.Client(nc, s.config)}
	if err := w.authenticate(); err != nil {
		t.Fatal(err)
	}
	return w
}

// The process is killed after it acknowledged: the next one tells how much was handled, also where it is killed again, and that much is stored. (What
// is never stored is told as far as something that is came behind it.)
func TestKilled(t *testing.T) {
	const store = "<iq type='set' id='s' to='montague.example'><store xmlns='urn:test'/></iq>"
	dir := t.TempDir()
	s, kill := startChild(t, dir)
	w := s.dial(t)
	for _, step := range []struct{ say, until string }{
		{"<iq type='set' id='b'><bind xmlns='" + nsBind + "'/></iq>", "</iq>"},
		{"<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled xmlns='urn:xmpp:sm:3' id='"},
	} {
		if _, err := w.ask(step.say, step.until); err != nil {
			t.Fatal(err)
		}
	}
	id, err := w.until("'")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ask("<presence/>"+strings.Repeat(store, 20)+"<presence/><r xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3' h='22'/>"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, store+"<message"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.until("<iq type='result'"); err != nil {
		t.Fatal(err)
	}
	kill()
	for range 2 {
		s, kill = startChild(t, dir)
		w = s.dial(t)
		answer, err := w.ask("<resume xmlns='urn:xmpp:sm:3' h='0' previd='"+id+"'/>", "</failed>")
		if err != nil {
			t.Fatal(err)
		}
		if want := "<failed xmlns='urn:xmpp:sm:3' h='23'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"; answer != want {
			t.Errorf("the server answers %s", answer)
		}
		if answer, err = w.ask("<iq type='set' id='b'><bind xmlns='"+nsBind+"'/></iq>"+
			"<iq type='get' id='n' to='montague.example'><stored xmlns='urn:test'/></iq>", "</stored>"); err != nil || !strings.HasSuffix(answer, ">21") {
			t.Errorf("stored: %s, %v", answer, err)
		}
		kill()
	}
}
