package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

const domain = "pibox.local"

// family is two people with a client each, outside of the box.
type family struct {
	ctx      context.Context
	m        *vm
	sh       *shell
	roots    *x509.CertPool
	password map[string]string
}

// serving waits until the box answers a client's stream header. The forwarded port itself is QEMU's and accepts from the start.
func (m *vm) serving(ctx context.Context) error {
	return retry(ctx, func() error {
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("QEMU ended: %w", err)
		default:
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

// members makes accounts, once, and learns whom to trust.
func (f *family) members() error {
	if f.password != nil {
		return nil
	}
	pem, err := f.sh.run(f.ctx, "pibox authority")
	if err != nil {
		return err
	}
	f.roots = x509.NewCertPool()
	if !f.roots.AppendCertsFromPEM([]byte(pem)) {
		return fmt.Errorf("no authority: %q", pem)
	}
	f.password = map[string]string{}
	for _, name := range []string{"juliet", "romeo"} {
		if _, err := f.sh.run(f.ctx, "echo 'a long enough word for "+name+"' | pibox user add "+name+" --password-stdin"); err != nil {
			return err
		}
		f.password[name] = "a long enough word for " + name
	}
	return nil
}

func (f *family) dial(name string, port int) (*testclient.Client, error) {
	ctx, cancel := context.WithTimeout(f.ctx, time.Minute)
	defer cancel()
	return testclient.Dial(ctx, testclient.Config{
		Addr: f.m.forward[port], Direct: port == 5223, Account: name + "@" + domain, Password: f.password[name],
		// The box may have been off for long, and this machine's clock is its own.
		TLS: &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12},
	})
}

func (f *family) login() error {
	if err := f.members(); err != nil {
		return err
	}
	for _, port := range []int{5222, 5223} {
		c, err := f.dial("juliet", port)
		if err != nil {
			return fmt.Errorf("port %d: %w", port, err)
		}
		c.Close(f.ctx)
	}
	return nil
}

// talk sends ten messages each way, and waits for each.
func (f *family) talk() error {
	juliet, err := f.dial("juliet", 5222)
	if err != nil {
		return err
	}
	defer juliet.Close(f.ctx)
	romeo, err := f.dial("romeo", 5223)
	if err != nil {
		return err
	}
	defer romeo.Close(f.ctx)
	for i := range 10 {
		for _, pair := range [][2]*testclient.Client{{juliet, romeo}, {romeo, juliet}} {
			body := fmt.Sprintf("%d from %s", i, pair[0].JID())
			if err := pair[0].Send("<message type='chat' id='m" + fmt.Sprint(i) + "' to='" + pair[1].JID() + "'><body>" + body + "</body></message>"); err != nil {
				return err
			}
			if err := arrives(f.ctx, pair[1], body); err != nil {
				return err
			}
		}
	}
	return nil
}

func arrives(ctx context.Context, c *testclient.Client, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := c.Await(ctx, func(st *frame.Element) bool {
		return st.Node().ChildText("jabber:client", "body") == body
	})
	return err
}
