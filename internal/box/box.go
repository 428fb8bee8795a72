// Package box is the wiring of one box: the store, the router, the features, the listeners, and the daemon around them that
// keeps `pibox status`, systemd and the LEDs going also while there is no usable store.
package box

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"pibox/internal/config"
	"pibox/internal/moved"
	"pibox/internal/portable"
	"pibox/internal/store"
	"pibox/internal/xmpp"
	"pibox/internal/xmpp/accounts"
	"pibox/internal/xmpp/archive"
	"pibox/internal/xmpp/blocking"
	"pibox/internal/xmpp/delivery"
	"pibox/internal/xmpp/disco"
	"pibox/internal/xmpp/pep"
	"pibox/internal/xmpp/presence"
	"pibox/internal/xmpp/push"
	"pibox/internal/xmpp/roster"
)

// StoreFile is the name of the database in the data folder.
const StoreFile = "pibox.db"

// StorePath is where the database of a configuration is.
func StorePath(cfg config.Config) string { return filepath.Join(cfg.DataDir, StoreFile) }

// Box is a store with everything that works on it, but without a way in: what tests talk to, and what the daemon opens listeners for.
type Box struct {
	Store    *store.Store
	Router   *xmpp.Router
	Accounts *accounts.Accounts
	Moved    *moved.Moved

	cfg     config.Config
	version string
	log     *slog.Logger

	roster   *roster.Roster
	presence *presence.Presence
	blocking *blocking.Blocking
	delivery *delivery.Delivery
	archive  *archive.Archive
	disco    *disco.Disco
	pep      *pep.PEP
	push     *push.Push

	migrations *migrations

	// dial, where it is not nil, replaces a net.Dialer's on the way to other servers, for tests.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New wires a box on an open store. The domains are those to serve, prepared, the main one first. remote may be nil: then other servers are
// not found.
func New(st *store.Store, cfg config.Config, domains []string, version string, remote xmpp.Remote, log *slog.Logger) (*Box, error) {
	b := &Box{Store: st, Router: xmpp.NewRouter(st, log, domains), cfg: cfg, version: version, log: log}
	if remote != nil {
		b.Router.SetRemote(remote)
	}
	err := portable.Recover(st)
	if err != nil {
		return nil, err
	}
	b.migrations = newMigrations()
	if b.Accounts, err = accounts.New(b.Router); err != nil {
		return nil, err
	}
	for _, f := range b.features() {
		f.register()
	}
	if err := b.Router.LoadDirectory(); err != nil {
		return nil, err
	}
	if err := b.blocking.Load(); err != nil {
		return nil, err
	}
	if err := b.push.Load(); err != nil {
		return nil, err
	}
	return b, nil
}

// Start takes up the work that a stop left; other servers can be reached from now on.
func (b *Box) Start() error {
	b.archive.Start()
	return errors.Join(b.Moved.Start(), b.resumeMigrations())
}

// Stop ends the work; what is durable goes on at the next Start.
func (b *Box) Stop() {
	b.migrations.stop()
	b.Moved.Stop()
	b.archive.Stop()
	b.push.Stop()
}

// Close ends the work and closes the store. Listeners are closed before.
func (b *Box) Close() error {
	b.Stop()
	return errors.Join(b.delivery.Flush(), b.Store.Close())
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }
