package c2s

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
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
	stalled  chan struct{}
	path     string
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
	b := &box{path: filepath.Join(dir, "pibox.db"), store: st, router: xmpp.NewRouter(st, log, []string{"montague.example", "capulet.example"})}
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
	b.router.HandleTx(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "set", NS: "urn:test", Name: "store"}, stored)
	b.router.HandleTx(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "set", NS: "urn:test", Name: "spoil"}, spoiled)
	b.router.HandleTx(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "set", NS: "urn:test", Name: "tell"}, b.told)
	b.router.Handle(xmpp.Key{Class: xmpp.ToServer, Kind: xmpp.IQ, Type: "get", NS: "urn:test", Name: "stored"}, howMany)
	b.server = New(Config{Router: b.router, Accounts: b.accounts, TLS: b.certs.TLSConfig(), Log: log, Options: opt})
	if err := b.server.Restore(); err != nil {
		t.Fatal(err)
	}
	return b
}

// stored is a request that changes the store.
func stored(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	n, _ := store.Progress.Get(tx, "test")
	store.Progress.Put(tx, "test", n+1)
	out.Reply(rq, nil)
	return nil
}

// told is stored, and the account's other devices are told of it, as by a carbon.
func (b *box) told(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	by := rq.Session
	out.After(func() {
		for _, s := range b.router.Sessions(by.JID.Bare()) {
			if s != by {
				s.Deliver(xmpp.Make([]byte("<message id='of " + by.JID.Resource + "'/>")))
			}
		}
	})
	return stored(tx, out, rq)
}

// spoiled fails too late: the others of its batch are run again without it.
func spoiled(tx *store.Tx, out *xmpp.Out, rq *xmpp.Request) error {
	if err := stored(tx, out, rq); err != nil {
		return err
	}
	return xmpp.Errorf(stanza.Conflict, "")
}

// howMany tells how many such requests there were.
func howMany(rq *xmpp.Request) error {
	var n store.Count
	if err := rq.View(func(tx *store.Tx) error {
		n, _ = store.Progress.Get(tx, "test")
		return nil
	}); err != nil {
		return err
	}
	rq.Reply(xmpp.NewXMLNS("stored", "urn:test").Text(strconv.Itoa(int(n))).Bytes())
	return nil
}

// stall has the store stop committing until stalled is closed.
func (b *box) stall() error {
	stalled := make(chan struct{})
	b.stalled = stalled
	b.router.Submit(0, func(*store.Tx, *xmpp.Out) error {
		<-stalled
		return nil
	}, nil)
	return nil
}

func (b *box) flow() {
	if b.stalled != nil {
		close(b.stalled)
		b.stalled = nil
	}
}

// changeOwn changes romeo's password as he does.
func (b *box) changeOwn(s *xmpp.Session) error {
	var standing string
	if err := b.store.View(func(tx *store.Tx) (err error) {
		standing, err = b.accounts.Standing(tx, romeo())
		return err
	}); err != nil {
		return err
	}
	return b.accounts.ChangeOwn(s, standing, "another")
}

// changeOffline changes romeo's password while the box is off, as a restored backup may.
func (b *box) changeOffline() error {
	st, err := store.Open(b.path, store.Options{Reserve: 1})
	if err != nil {
		return err
	}
	err = st.Update(func(tx *store.Tx) error {
		acc, _ := store.Accounts.Get(tx, romeo().String())
		acc.SHA256.StoredKey = append([]byte{}, acc.SHA256.StoredKey[1:]...)
		store.Accounts.Put(tx, romeo().String(), acc)
		return nil
	})
	return errors.Join(err, st.Close())
}

// crash goes on with the file as a killed process leaves it.
func (b *box) crash(t testing.TB) {
	t.Helper()
	whole, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	b.stop(t)
	if err := os.WriteFile(b.path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// stop ends everything, as a test does at its end.
func (b *box) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.server.Shutdown(ctx, nil); err != nil {
		t.Error(err)
	}
	if n := b.server.outbox.lost.Load(); n != 0 {
		t.Errorf("%d bytes are counted for sessions without a connection when there are none", n)
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
