package c2s

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// oldTLS is a client of TLS 1.2 without the extended master secret (RFC 7627), which crypto/tls can not be made to leave out: ECDHE-ECDSA
// with X25519 and AES-128-GCM. It checks nothing.
type oldTLS struct {
	net.Conn
	messages bytes.Buffer // of the handshake
	seal     cipher.AEAD
	open     cipher.AEAD
	sealIV   []byte
	openIV   []byte
	sent     uint64
	got      uint64
}

const (
	recordCCS       = 20
	recordHandshake = 22
	recordData      = 23
)

func vector(size int, b []byte) []byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	return append(n[8-size:], b...)
}

func extension(kind uint16, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vector(2, b)...)
}

func (c *oldTLS) handshake() error {
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	hello := append([]byte{3, 3}, random...)
	hello = append(hello, 0)                                                                 // no session
	hello = append(hello, 0, 2, 0xc0, 0x2b)                                                  // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	hello = append(hello, 1, 0)                                                              // no compression
	extensions := append(extension(10, []byte{0, 2, 0, 29}), extension(11, []byte{1, 0})...) // x25519, uncompressed
	extensions = append(extensions, extension(13, []byte{0, 2, 4, 3})...)                    // ecdsa_secp256r1_sha256
	if err := c.sendMessage(1, append(hello, vector(2, extensions)...)); err != nil {
		return err
	}
	var serverRandom, point []byte
	for typ := byte(0); typ != 14; {
		var body []byte
		var err error
		if typ, body, err = c.message(); err != nil {
			return err
		}
		switch typ {
		case 2:
			serverRandom = body[2:34]
		case 12:
			point = body[4 : 4+int(body[3])]
		}
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	theirs, err := ecdh.X25519().NewPublicKey(point)
	if err != nil {
		return err
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		return err
	}
	if err := c.sendMessage(16, vector(1, key.PublicKey().Bytes())); err != nil {
		return err
	}
	master := prf(shared, "master secret", append(bytes.Clone(random), serverRandom...), 48) // RFC 5246 §8.1: not of the session's hash
	if err := c.keys(prf(master, "key expansion", append(bytes.Clone(serverRandom), random...), 40)); err != nil {
		return err
	}
	return c.finish(master)
}

func (c *oldTLS) keys(block []byte) error {
	for i, aead := range []*cipher.AEAD{&c.seal, &c.open} {
		b, err := aes.NewCipher(block[16*i : 16*i+16])
		if err != nil {
			return err
		}
		if *aead, err = cipher.NewGCM(b); err != nil {
			return err
		}
	}
	c.sealIV, c.openIV = block[32:36], block[36:40]
	return nil
}

func (c *oldTLS) finish(master []byte) error {
	digest := sha256.Sum256(c.messages.Bytes())
	if err := c.record(recordCCS, []byte{1}); err != nil {
		return err
	}
	finished := append([]byte{20}, vector(3, prf(master, "client finished", digest[:], 12))...)
	if err := c.sealed(recordHandshake, finished); err != nil {
		return err
	}
	if typ, _, err := c.read(); err != nil || typ != recordCCS {
		return errors.Join(errors.New("no change of cipher"), err)
	}
	typ, _, err := c.opened()
	if err != nil || typ != recordHandshake {
		return errors.Join(errors.New("not finished"), err)
	}
	return nil
}

// prf is P_SHA256 (RFC 5246 §5).
func prf(secret []byte, label string, seed []byte, n int) []byte {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	full := append([]byte(label), seed...)
	var out []byte
	for a := mac(full); len(out) < n; a = mac(a) {
		out = append(out, mac(a, full)...)
	}
	return out[:n]
}

func (c *oldTLS) sendMessage(typ byte, body []byte) error {
	m := append([]byte{typ}, vector(3, body)...)
	c.messages.Write(m)
	return c.record(recordHandshake, m)
}

// message reads one handshake message; the server sends each in a record of its own.
func (c *oldTLS) message() (byte, []byte, error) {
	typ, b, err := c.read()
	if err != nil || typ != recordHandshake {
		return 0, nil, errors.Join(errors.New("no handshake"), err)
	}
	c.messages.Write(b)
	return b[0], b[4:], nil
}

func (c *oldTLS) record(typ byte, b []byte) error {
	_, err := c.Conn.Write(append([]byte{typ, 3, 3}, vector(2, b)...))
	return err
}

func (c *oldTLS) read() (byte, []byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err := io.ReadFull(c.Conn, b)
	return head[0], b, err
}

func additional(n uint64, typ byte, size int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), typ, 3, 3, byte(size>>8), byte(size))
}

func (c *oldTLS) sealed(typ byte, b []byte) error {
	explicit := binary.BigEndian.AppendUint64(nil, c.sent)
	out := c.seal.Seal(explicit, append(bytes.Clone(c.sealIV), explicit...), b, additional(c.sent, typ, len(b)))
	c.sent++
	return c.record(typ, out)
}

func (c *oldTLS) opened() (byte, []byte, error) {
	typ, b, err := c.read()
	if err != nil {
		return 0, nil, err
	}
	size := len(b) - 8 - c.open.Overhead()
	out, err := c.open.Open(nil, append(bytes.Clone(c.openIV), b[:8]...), b[8:], additional(c.got, typ, size))
	c.got++
	return typ, out, err
}

// On TLS 1.2 without the extended master secret two connections can share their secrets, so that a binding to them proves nothing: -PLUS is not
// offered (RFC 9266 §4.2), and not taken. With the secret it is: testdata/login.txt.
func TestNoBindingWithoutExtendedMasterSecret(t *testing.T) {
	b := newBox(t, t.TempDir(), nil, Options{})
	t.Cleanup(func() { b.stop(t) })
	nc, err := net.Dial("tcp", b.listen(t, true))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	c := &oldTLS{Conn: nc}
	if err := c.handshake(); err != nil {
		t.Fatal(err)
	}
	read := func(end string) string {
		var text string
		for !strings.Contains(text, end) {
			typ, b, err := c.opened()
			if err != nil || typ != recordData {
				t.Fatalf("record %d: %v", typ, err)
			}
			text += string(b)
		}
		return text
	}
	if err := c.sealed(recordData, []byte(header)); err != nil {
		t.Fatal(err)
	}
	features := read("</stream:features>")
	if !strings.Contains(features, "SCRAM-SHA-256<") || strings.Contains(features, "PLUS") || strings.Contains(features, nsCB) {
		t.Errorf("the server offers %s", features)
	}
	auth := "<auth xmlns='" + nsSASL + "' mechanism='SCRAM-SHA-256-PLUS'>" + b64("p=tls-exporter,,n=romeo,r=x") + "</auth>"
	if err := c.sealed(recordData, []byte(auth)); err != nil {
		t.Fatal(err)
	}
	if answer := read("</failure>"); !strings.Contains(answer, "<invalid-mechanism/>") {
		t.Errorf("the server answers %s", answer)
	}
}
