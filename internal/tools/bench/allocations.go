package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

// allocations are those of a stanza from the bytes of one client to the queue of another: cut, stamped, routed, delivered. Sockets and TLS are
// not among them.
func allocations() (perStanza, bytesPerStanza float64) {
	testing.Init()
	res := testing.Benchmark(func(b *testing.B) {
		if err := relayInMemory(b); err != nil {
			b.Fatal(err)
		}
	})
	return float64(res.AllocsPerOp()), float64(res.AllocedBytesPerOp())
}

type sink struct{ n int }

func (s *sink) Deliver(*xmpp.Stanza) bool { s.n++; return true }
func (s *sink) Close(*xmpp.StreamError)   {}

// endless is a stream of the same bytes.
type endless struct {
	rest, again []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.again
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func relayInMemory(b *testing.B) error {
	dir, err := os.MkdirTemp("", "pibox-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{})
	if err != nil {
		return err
	}
	if err := st.Update(func(tx *store.Tx) error {
		for i := range 2 {
			store.Accounts.Put(tx, user(i)+"@"+domain, store.Account{})
		}
		return nil
	}); err != nil {
		return err
	}
	bx, err := box.New(st, config.Default(), []string{domain}, "bench", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = bx.Close() }()
	var ends [2]*xmpp.Session
	to := &sink{}
	for i, out := range []xmpp.Outlet{&sink{}, to} {
		ends[i] = bx.Router.Bind(xmpp.JID{Local: user(i), Domain: domain}, "r0", "bench", out, xmpp.ConflictReplace)
	}
	p := "<message type='chat' id='m1' to='" + ends[1].JID.String() + "'><body>Good night, good night! Parting is such sweet sorrow.</body><no-store xmlns='urn:xmpp:hints'/></message>"
	header := "<stream:stream xmlns='jabber:client' xmlns:stream='" + frame.NSStreams + "' version='1.0' to='" + domain + "'>"
	rd := frame.NewReader(io.MultiReader(bytes.NewReader([]byte(header)), &endless{again: []byte(p)}), frame.Limits{})
	if _, err := rd.Next(); err != nil {
		return err
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		ev, err := rd.Next()
		if err != nil {
			return err
		}
		if se := bx.Router.FromSession(ends[0], ev.Element); se != nil {
			return fmt.Errorf("%s", se.Condition)
		}
	}
	b.StopTimer()
	if to.n != b.N {
		return fmt.Errorf("%d of %d came", to.n, b.N)
	}
	return nil
}
