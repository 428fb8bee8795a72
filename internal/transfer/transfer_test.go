package transfer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

func TestCode(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		c := NewCode()
		s := c.String()
		if seen[s] || len(s) != 24 || strings.Count(s, "-") != 4 {
			t.Fatalf("%q", s)
		}
		seen[s] = true
		for _, typed := range []string{s, strings.ToLower(s), strings.ReplaceAll(s, "-", ""), " " + strings.ReplaceAll(s, "-", " ") + "\n", strings.NewReplacer("0", "o", "1", "l").Replace(s)} {
			if got, err := ParseCode(typed); err != nil || got != c {
				t.Errorf("%q: %v %v", typed, got, err)
			}
		}
		swapped := []byte(s)
		swapped[0], swapped[5] = swapped[5], swapped[0]
		if _, err := ParseCode(string(swapped)); err == nil && swapped[0] != swapped[5] {
			t.Errorf("%s was taken for %s", swapped, s)
		}
	}
	for _, s := range []string{"", "ABCD", "UUUU-UUUU-UUUU-UUUU-UUUU", NewCode().String() + "0"} {
		if _, err := ParseCode(s); !errors.Is(err, ErrCode) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if c := NewCode(); bytes.Equal(c.Key(), NewCode().Key()) || bytes.Contains(c.Key(), c[:]) || len(c.Key()) != 32 {
		t.Error("keys")
	}
}

type side struct {
	*Conn
	err error
}

// meet connects two sides; between may change what goes through.
func meet(t *testing.T, old, new []byte, between func(a, b net.Conn)) (o, n side) {
	cert, err := Certificate()
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	far := b
	if between != nil {
		c, d := net.Pipe()
		go between(b, c)
		far = d
	}
	done := make(chan side)
	go func() {
		c, err := Server(a, old, cert)
		if err != nil {
			_ = a.Close()
		}
		done <- side{c, err}
	}()
	c, err := Client(far, new)
	if err != nil {
		_ = far.Close()
	}
	return <-done, side{c, err}
}

func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := NewCode().Key()
		o, n := meet(t, key, key, nil)
		if o.err != nil || n.err != nil {
			t.Fatal(o.err, n.err)
		}
		data := bytes.Repeat([]byte("body"), 300_000)
		go func() {
			_ = o.Send(Message{Op: Offer, Size: 7})
			_, _ = o.Body().Write(data)
			_ = o.Body().Close()
			_ = o.Send(Message{Op: Given})
			_ = o.Send(Message{Op: Busy})
			_ = o.Send(Message{Op: Refused, Text: "the disk is full"})
			_, _ = o.tls.Write([]byte("no json\n"))
			_, _ = o.tls.Write(bytes.Repeat([]byte("x"), maxMessage+1))
		}()
		if m, err := n.Receive(Offer, Busy); err != nil || m.Size != 7 {
			t.Error(m, err)
		}
		if got, err := io.ReadAll(n.Reader()); err != nil || !bytes.Equal(got, data) {
			t.Error(len(got), err)
		}
		if _, err := n.Receive(Given); err != nil {
			t.Error(err)
		}
		if _, err := n.Receive(Given); err == nil {
			t.Error("busy was taken for given")
		}
		var refused *RefusedError
		if _, err := n.Receive(Given); !errors.As(err, &refused) || refused.Text != "the disk is full" {
			t.Error(err)
		}
		for range 2 {
			if _, err := n.Receive(Given); err == nil || !strings.Contains(err.Error(), "something else") {
				t.Error(err)
			}
		}
		go func() { _, _ = o.Body().Write([]byte("half")); _ = o.tls.Close() }()
		var cut *CutError
		if _, err := io.ReadAll(n.Reader()); !errors.As(err, &cut) {
			t.Error(err)
		}
		_ = n.Close()
	})
}

// Who sits in between and speaks TLS with both proves nothing by passing proofs on, and neither side tells him anything.
func TestManInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := NewCode().Key()
		cert, err := Certificate()
		if err != nil {
			t.Fatal(err)
		}
		o, n := meet(t, key, key, func(old, new net.Conn) {
			a := tls.Client(old, &tls.Config{InsecureSkipVerify: true})
			b := tls.Server(new, &tls.Config{Certificates: []tls.Certificate{cert}})
			go func() { _, _ = io.Copy(b, a); _ = b.Close() }()
			_, _ = io.Copy(a, b)
			_ = a.Close()
		})
		if !errors.Is(o.err, ErrProof) || !errors.Is(n.err, ErrProof) {
			t.Errorf("%v %v", o.err, n.err)
		}
	})
}

func TestWrongCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, n := meet(t, NewCode().Key(), NewCode().Key(), nil)
		if !errors.Is(o.err, ErrProof) || !errors.Is(n.err, ErrProof) {
			t.Errorf("%v %v", o.err, n.err)
		}
		// One who has no code and gives back the proof that he got.
		a, b := net.Pipe()
		cert, _ := Certificate()
		go func() {
			s := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}})
			proof := make([]byte, 32)
			_, _ = io.ReadFull(s, proof)
			_, _ = s.Write(proof)
		}()
		if _, err := Client(b, NewCode().Key()); !errors.Is(err, ErrProof) {
			t.Error(err)
		}
		_, _ = a.Close(), b.Close()
	})
}

func FuzzParseCode(f *testing.F) {
	f.Add("0000-0000-0000-0000-0000")
	f.Add(NewCode().String())
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseCode(s); err == nil {
			if again, err := ParseCode(c.String()); err != nil || again != c {
				t.Errorf("%q", s)
			}
		}
	})
}
