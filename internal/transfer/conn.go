package transfer

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

const (
	// handshakeTime is the time for the whole of TLS and the proofs.
	handshakeTime = 10 * time.Second
	// Patience is the time for the next sign of the other side; it gives one at least every Beat.
	Patience = 60 * time.Second
	// Beat is how often a box that is busy says so.
	Beat = 5 * time.Second

	maxMessage = 64 << 10  // bytes of a message
	maxFrame   = 256 << 10 // bytes of a frame of the body
)

// ErrProof: the other side does not know the code.
var ErrProof = errors.New("the other box does not have this code: it is mistyped, over, or somebody is in between")

// Op is what a message says.
type Op string

// The conversation. New is the box that takes the old one's place.
//
//	new  fetch       it has ID, version and schema
//	old  offer       manifest and size; it still serves
//	new  begin       it has room
//	old              stops serving, sends the body
//	new  working …   it checks
//	new  verified    everything is there, checked, synced
//	old  given       it will never serve again by itself: that is synced
//	new  installed
//
// Where the connection ends behind verified:
//
//	new  ask         ID
//	old  given, or serving (it was not: the new box has to forget what it got), or busy (it does not know yet)
//
// At any time, instead: refused, with a text for the person.
const (
	Fetch     Op = "fetch"
	Offer     Op = "offer"
	Begin     Op = "begin"
	Working   Op = "working"
	Verified  Op = "verified"
	Given     Op = "given"
	Installed Op = "installed"
	Ask       Op = "ask"
	Serving   Op = "serving"
	Busy      Op = "busy"
	Refused   Op = "refused"
)

// Message is one line of the conversation.
type Message struct {
	Op      Op       `json:"op"`
	ID      string   `json:"id,omitempty"` // of the transfer; the new box makes it
	Format  int      `json:"format,omitempty"`
	Schema  int      `json:"schema,omitempty"`
	Version string   `json:"version,omitempty"`
	Size    int64    `json:"size,omitempty"` // more than the body has, uncompressed, in bytes
	Domains []string `json:"domains,omitempty"`
	Text    string   `json:"text,omitempty"` // why it is refused
}

// Conn is a connection on which both sides have proved that they have the code.
type Conn struct {
	tls *tls.Conn
	in  *bufio.Reader
}

// Certificate makes one for the old box's side. Nobody has to trust it: the code is what proves.
func Certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// Server is the old box's side.
func Server(conn net.Conn, key []byte, cert tls.Certificate) (*Conn, error) {
	return secure(tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}), func(c *Conn, ekm []byte) error {
		if err := c.expect(proof(key, "new", ekm)); err != nil {
			return err
		}
		_, err := c.tls.Write(proof(key, "old", ekm))
		return err
	})
}

// Client is the new box's side.
func Client(conn net.Conn, key []byte) (*Conn, error) {
	// InsecureSkipVerify: the certificate is of nobody; the proofs, over keys of this very connection, are what counts.
	return secure(tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}), func(c *Conn, ekm []byte) error {
		if _, err := c.tls.Write(proof(key, "new", ekm)); err != nil {
			return err
		}
		return c.expect(proof(key, "old", ekm))
	})
}

func secure(t *tls.Conn, prove func(*Conn, []byte) error) (*Conn, error) {
	c := &Conn{tls: t, in: bufio.NewReaderSize(t, 64<<10)}
	err := t.SetDeadline(time.Now().Add(handshakeTime))
	if err == nil {
		err = t.Handshake()
	}
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	state := t.ConnectionState()
	ekm, err := state.ExportKeyingMaterial("EXPORTER-pibox-transfer", nil, 32) // RFC 8446 §7.5
	if err == nil {
		err = prove(c, ekm)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// proof is over the keys of one connection, so that it is worth nothing on another; a side's own proof is never the other's.
func proof(key []byte, side string, ekm []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(side + "\x00"))
	_, _ = h.Write(ekm)
	return h.Sum(nil)
}

func (c *Conn) expect(want []byte) error {
	have := make([]byte, len(want))
	if _, err := io.ReadFull(c.in, have); err != nil || !hmac.Equal(have, want) {
		return ErrProof // a side that was given a wrong one only closes
	}
	return nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.tls.Close() }

// RemoteAddr is the other box's.
func (c *Conn) RemoteAddr() net.Addr { return c.tls.RemoteAddr() }

// Send sends a message.
func (c *Conn) Send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_ = c.tls.SetWriteDeadline(time.Now().Add(Patience))
	_, err = c.tls.Write(append(line, '\n'))
	return err
}

// Receive waits for a message, one of those that may come now. A refusal is an *RefusedError.
func (c *Conn) Receive(may ...Op) (m Message, err error) {
	_ = c.tls.SetReadDeadline(time.Now().Add(Patience))
	var line []byte
	for {
		b, err := c.in.ReadByte()
		if err != nil {
			return m, err
		}
		if b == '\n' {
			break
		}
		if line = append(line, b); len(line) > maxMessage {
			return m, errors.New("the other box sends something else than a message")
		}
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("the other box sends something else than a message: %w", err)
	}
	for _, op := range may {
		if m.Op == op {
			return m, nil
		}
	}
	if m.Op == Refused {
		return m, &RefusedError{m.Text}
	}
	return m, fmt.Errorf("the other box says %q where nobody asked for it", m.Op)
}

// RefusedError is what the other box said to refuse.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return "the other box refuses: " + e.Text }

// Body writes frames: 4 bytes of length, that many bytes; a length of 0 ends it.
type Body struct{ c *Conn }

// Body is what the old box sends.
func (c *Conn) Body() Body { return Body{c} }

// Write implements io.Writer.
func (b Body) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		chunk := p[done:min(len(p), done+maxFrame)]
		_ = b.c.tls.SetWriteDeadline(time.Now().Add(Patience))
		if _, err := b.c.tls.Write(binary.BigEndian.AppendUint32(nil, uint32(len(chunk)))); err != nil {
			return done, err
		}
		if _, err := b.c.tls.Write(chunk); err != nil {
			return done, err
		}
		done += len(chunk)
	}
	return done, nil
}

// Close ends the body.
func (b Body) Close() error {
	_, err := b.c.tls.Write(make([]byte, 4))
	return err
}

// Reader is a body that comes in; its end is io.EOF.
func (c *Conn) Reader() io.Reader { return &bodyReader{c: c} }

type bodyReader struct {
	c    *Conn
	left uint32
	end  bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.end {
		return 0, io.EOF
	}
	_ = b.c.tls.SetReadDeadline(time.Now().Add(Patience))
	if b.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(b.c.in, head[:]); err != nil {
			return 0, cut(err)
		}
		b.left = binary.BigEndian.Uint32(head[:])
		if b.left > maxFrame {
			return 0, fmt.Errorf("a frame of %d bytes", b.left)
		}
		if b.left == 0 {
			b.end = true
			return 0, io.EOF
		}
	}
	n, err := b.c.in.Read(p[:min(len(p), int(b.left))])
	b.left -= uint32(n)
	return n, cut(err)
}

// CutError: the connection ended in the middle.
type CutError struct{ Err error }

func (e *CutError) Error() string { return "the connection to the other box ended: " + e.Err.Error() }
func (e *CutError) Unwrap() error { return e.Err }

// Timeout marks it as an error of a connection and not of what came over it.
func (e *CutError) Timeout() bool { return true }

func cut(err error) error {
	if err == nil {
		return nil
	}
	return &CutError{err}
}
