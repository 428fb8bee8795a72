package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/xmpp/frame"
)

// python is Debian's, which slixmpp is installed for.
const python = "/usr/bin/python3"

// person is an account on the box.
type person struct{ address, password string }

// serving waits until the box answers a client's stream header. The forwarded port itself is QEMU's and accepts from the start.
func (m *vm) serving(ctx context.Context, domain string) error {
	return retry(ctx, func() error {
		if err := m.runs(); err != nil {
			return err
		}
		conn, err := net.DialTimeout("tcp", m.forward[5222], time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintf(conn, "<stream:stream xmlns='jabber:client' xmlns:stream='%s' version='1.0' to='%s'>", frame.NSStreams, domain); err != nil {
			return err
		}
		var answer bytes.Buffer
		_, err = io.CopyN(&answer, conn, 200)
		if !strings.Contains(answer.String(), "<stream:stream") {
			return fmt.Errorf("no stream: %q, %w", answer.String(), errors.Join(err))
		}
		return nil
	})
}

// certificate gives the one that the box shows, as a file, when it is the one that stands in pibox-status.txt.
func (m *vm) certificate(ctx context.Context, domain, status string) (file string, err error) {
	// Trust comes from the comparison below.
	d := tls.Dialer{Config: &tls.Config{ServerName: domain, InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"}}}
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := d.DialContext(bounded, "tcp", m.forward[5223])
	if err != nil {
		return "", err
	}
	defer conn.Close()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if err := shown.VerifyHostname(domain); err != nil {
		return "", err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(shown.Raw))
	if !strings.Contains(strings.NewReplacer(":", "", " ", "", "\n", "").Replace(strings.ToLower(status)), sum) {
		return "", fmt.Errorf("pibox-status.txt does not show the certificate %s", sum)
	}
	file = filepath.Join(m.dir, "certificate.pem")
	return file, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shown.Raw}), 0o600)
}

// chat lets people log in with slixmpp, the first by STARTTLS and the last (the same on another device, where there is one alone) by TLS, and
// write to each other.
func (m *vm) chat(ctx context.Context, certificate string, people ...person) error {
	roles := map[string]any{}
	for i, p := range people {
		roles[fmt.Sprintf("%d", i)] = map[string]any{
			"jid": p.address, "password": p.password, "authority": certificate, "host": "127.0.0.1",
			"starttls": portOf(m.forward[5222]), "direct_tls": portOf(m.forward[5223]),
		}
	}
	raw, err := json.Marshal(map[string]any{"roles": roles, "limit": 180})
	if err != nil {
		return err
	}
	file := filepath.Join(m.dir, "chat.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, python, "-B", "internal/tools/imagetest/chat.py", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		fmt.Print("      ", line)
	}
	return nil
}

func portOf(address string) int {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return 0 // of our own making: not so
	}
	return a.Port
}
