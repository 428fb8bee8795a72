package box

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/health"
	"pibox/internal/store"
)

// parts is everything that belongs to the box. What a feature keeps outside of the store has a line here, and one in package backup.
func (d *Daemon) parts(sn store.Snapshot) []backup.Part {
	cfg := d.config()
	parts := []backup.Part{
		backup.File(backup.PartConfiguration, "", d.configFile()),
		backup.Database(sn),
		backup.Folder(backup.PartTLS, filepath.Join(cfg.DataDir, tlsFolder)),
	}
	for i, path := range d.namedFiles() {
		parts = append(parts, backup.File(backup.PartFiles, fmt.Sprintf("%06d", i), path))
	}
	return parts
}

// tlsFolder, in the data folder, has the authority and its certificates.
const tlsFolder = "tls"

// namedFiles are those that the configuration names.
func (d *Daemon) namedFiles() []string { return d.config().Files() }

// Backup implements admin.API.
func (d *Daemon) Backup(_ context.Context, _ admin.BackupRequest, w io.Writer) (resp admin.BackupResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	m, err := d.stream(s.box.Store, s.box.Router.Domains(), w)
	return admin.BackupResponse{Schema: m.Schema, Taken: m.Taken, Domains: m.Domains, Accounts: m.Accounts, Messages: m.Messages}, told(err)
}

// stream writes the whole box to w, which may be slow: the database does not wait for it as long as the disk has room for what w is behind with.
func (d *Daemon) stream(st *store.Store, domains []string, w io.Writer) (m backup.Manifest, err error) {
	cfg := d.config()
	spool := backup.NewSpool(cfg.DataDir, func(n int64) bool {
		free, err := freeBytes(cfg.DataDir)
		return err == nil && free-n > 2*int64(cfg.Store.Reserve)
	})
	copied := make(chan error, 1)
	go func() { copied <- spool.Copy(w) }()
	err = st.Snapshot(func(sn store.Snapshot) error {
		m = d.manifest(sn, domains)
		m, err = backup.Write(spool, m, d.parts(sn))
		return err
	})
	spool.Close(err)
	if copyErr := <-copied; err == nil {
		err = copyErr
	}
	return m, err
}

func (d *Daemon) manifest(sn store.Snapshot, domains []string) backup.Manifest {
	sum := sn.Summary()
	return backup.Manifest{
		Version: d.version, Schema: store.Schema(), Taken: time.Now().UTC(), Domains: domains, Accounts: sum.Accounts, Messages: sum.Messages,
		Files: d.namedFiles(),
	}
}

// RestoreConfirm implements admin.API.
func (d *Daemon) RestoreConfirm(context.Context, admin.RestoreConfirmRequest) (resp admin.RestoreConfirmResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	if err := s.box.Store.Update(func(tx *store.Tx) error {
		resp.Held = store.Held(tx)
		store.SetHeld(tx, false)
		return nil
	}); err != nil {
		return resp, told(err)
	}
	d.health.Clear(factHeld)
	if !resp.Held {
		return resp, nil
	}
	return resp, s.box.Moved.Resume()
}

const factHeld = "held"

// tellHeld reminds of what waits.
func (d *Daemon) tellHeld(st *store.Store) error {
	return st.View(func(tx *store.Tx) error {
		if !store.Held(tx) {
			d.health.Clear(factHeld)
			return nil
		}
		d.health.Set(health.Fact{Name: factHeld, Severity: health.Degraded, Text: "this box was restored from a backup: nobody is moved before you say, with " +
			"'pibox restore --confirm', that the old one is gone."})
		return nil
	})
}
