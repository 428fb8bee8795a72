package c2s

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"pibox/internal/reach"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"

	"mellium.im/xmpp/stanza"
)

// box is a server with what it needs around it; romeo's and juliet's passwords are their names.
type box struct {
	server   *Server
	router   *xmpp.Router
	accounts *accounts.Accounts
	certs    *reach.Certificates
	store    *store.Store
}

func newBox(t testing.TB, dir string, log *slog.Logger, opt Options) *box {
	t.Helper()
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &box{store: st, router: xmpp.NewRouter(st, log, []string{"montague.example", "capulet.example"})}
	if b.accounts, err = accounts.New(b.router); err != nil {
		t.Fatal(err)
	}
	if b.certs, err = reach.Open(reach.Config{Dir: filepath.Join(dir, "tls"), Domains: b.router.Domains()}); err != nil {
		t.Fatal(err)
	}
	if err := b.router.LoadDirectory(); err != nil {
		t.Fatal(err)
	}
	for _, j := range []string{"romeo@montague.example", "juliet@capulet.example"} {
		account := xmpp.MustJID(j)
		if b.router.Exists(account) {
			continue
		}
		if _, err := b.accounts.Create(account, account.Local, accounts.Role{}); err != nil {
			t.Fatal(err)
		}
	}
	deliverOnline(b.router)
	b.server = New(Config{Router: b.router, Accounts: b.accounts, TLS: b.certs.TLSConfig(), Log: log, Options: opt})
	return b
}

// stop ends everything, as a test does at its end.
func (b *box) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := b.store.Close(); err != nil {
		t.Error(err)
	}
}

// listen serves on loopback until the test is over.
func (b *box) listen(t testing.TB, direct bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, ln, direct) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// deliverOnline stands for the delivery feature: messages reach who is online.
func deliverOnline(r *xmpp.Router) {
	to := func(rq *xmpp.Request) error {
		for _, s := range r.Sessions(rq.To.Bare()) {
			if rq.To.IsBare() || rq.To == s.JID {
				if s.Deliver(rq.Stanza) {
					return nil
				}
			}
		}
		return xmpp.Errorf(stanza.ServiceUnavailable, "")
	}
	r.Handle(xmpp.Key{Class: xmpp.ToAccount, Kind: xmpp.Message, Type: "*"}, to)
	r.Handle(xmpp.Key{Class: xmpp.ToResource, Kind: xmpp.Message, Type: "*"}, to)
}

func romeo() xmpp.JID { return xmpp.MustJID("romeo@montague.example") }

func conflictPolicy(s string) xmpp.ConflictPolicy { return xmpp.ConflictPolicy(s) }
