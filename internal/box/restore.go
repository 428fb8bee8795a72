package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/backup"
	"pibox/internal/config"
	"pibox/internal/store"
)

// Source is a backup to restore.
type Source struct {
	io.Reader
	Name string // for the person
	Keys *backup.Keys
	// Replace lets it take the place of a box that is there; that is kept beside.
	Replace bool
	// Config is the configuration file in use; "" for none.
	Config string
}

// Restored tells what was restored.
type Restored struct {
	Path     string   `json:"path"` // of the database
	Kept     string   `json:"kept,omitempty"`
	KeptTLS  string   `json:"kept_tls,omitempty"`
	Schema   int      `json:"schema"`
	Users    int      `json:"users"`
	Messages int      `json:"messages"`
	Domains  []string `json:"domains"`
	// Certificates are those that came along: of the domains, by the family's authority. None: the box makes a new authority.
	Certificates []string  `json:"certificates"`
	Taken        time.Time `json:"taken,omitzero"`
	Version      string    `json:"version,omitempty"`
	// Config is the configuration that came along, in use from now on; ConfigAside one that does not count here, ConfigWhy why.
	Config      string `json:"config,omitempty"`
	ConfigAside string `json:"config_aside,omitempty"`
	ConfigWhy   string `json:"config_why,omitempty"`
	// Named is the folder of the files that such a configuration names; "" for none.
	Named string `json:"named,omitempty"`
	Held  bool   `json:"held"`
}

// Restore makes a box of a backup while no daemon runs. At any moment, also when the power fails, the box is the old one or the whole new one: that
// is prepared and checked in a folder of its own, and the database is read in a child process: what is damaged may end the process that reads
// it. Errors are *admin.Error where the person can do something.
func Restore(ctx context.Context, cfg config.Config, in Source) (done Restored, err error) {
	unlock, err := lockBox(cfg, in.Replace)
	if err != nil {
		return done, err
	}
	defer unlock()
	if err := noTransfer(cfg.DataDir); err != nil {
		return done, err
	}
	RemoveLeft(cfg.DataDir, RestorePrefix)
	work, err := os.MkdirTemp(cfg.DataDir, RestorePrefix)
	if err != nil {
		return done, mayNot(err, "write to", cfg.DataDir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	s, err := backup.Open(in, in.Keys)
	if err != nil {
		return done, in.explain(err)
	}
	defer s.Close()
	fresh := filepath.Join(work, "box")
	if s.Kind == backup.KindDatabase {
		done, err = copyDatabase(ctx, cfg, s, work, fresh)
	} else {
		done, err = unpackInto(ctx, cfg, s, fresh, true, in.Config)
	}
	if err != nil {
		return done, in.explain(err)
	}
	if err := in.mayReplace(cfg.DataDir, fresh); err != nil {
		return done, err
	}
	if err := forgetTaken(cfg.DataDir); err != nil {
		return done, err
	}
	return done, done.install(cfg.DataDir, fresh)
}

// Check reads a backup whole and changes nothing. Of a plain copy of a database it reads the copy in a child process.
func Check(ctx context.Context, in Source) (backup.Manifest, error) {
	s, err := backup.Open(in, in.Keys)
	if err != nil {
		return backup.Manifest{}, in.explain(err)
	}
	defer s.Close()
	if s.Kind == backup.KindDatabase {
		return backup.Manifest{}, admin.Errorf(admin.CodeInvalid, "%s is a copy of a database", in.Name).Then("'pibox check-store %s' reads it.", in.Name)
	}
	m, _, err := backup.Verify(s)
	return m, in.explain(err)
}

// lockBox keeps a daemon from the data folder, and finishes what a power cut left.
func lockBox(cfg config.Config, replace bool) (unlock func(), err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, mayNot(err, "write to", cfg.DataDir)
	}
	path := StorePath(cfg)
	folder, err := lockFolder(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	file, err := lockStore(path)
	if err != nil {
		folder()
		return nil, err
	}
	unlock = func() { file(); folder() }
	if _, err := install(cfg.DataDir); err != nil {
		unlock()
		return nil, mayNot(err, "write to", cfg.DataDir)
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		unlock()
		return nil, admin.Errorf(admin.CodeExists, "%s is there already", path).Then("With --replace it is kept beside under another name.")
	}
	return unlock, nil
}

// lockStore keeps a daemon from opening the database that is there. A daemon that has it open is found even where its admin socket is not.
func lockStore(path string) (unlock func(), err error) {
	_, err = os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func() {}, nil
	case err != nil:
		return nil, mayNot(err, "read", path)
	}
	unlock, err = store.Lock(path)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, ErrRunning()
	case err != nil:
		return nil, mayNot(err, "write to", path)
	}
	return unlock, nil
}

// ErrRunning tells that the server has to be stopped first.
func ErrRunning() *admin.Error {
	return admin.Errorf(admin.CodeRunning, "the server is running").
		Then("Stop it first, with 'systemctl stop pibox' or Ctrl-C where it runs.")
}

// mayNot tells a person whom the system refused what to do; other errors it leaves alone.
func mayNot(err error, what, path string) error {
	var known *admin.Error
	if !errors.Is(err, fs.ErrPermission) || errors.As(err, &known) {
		return err
	}
	return admin.Errorf(admin.CodeForbidden, "this user may not %s %s", what, path).
		Then("Use sudo, or run the command as the user the box runs as: 'sudo -u pibox pibox …'.")
}

// mayReplace refuses to put certificates over others, such as those of a box whose database is gone.
func (in Source) mayReplace(dir, fresh string) error {
	there := filepath.Join(dir, tlsFolder)
	if in.Replace || !isThere(filepath.Join(fresh, tlsFolder)) || !isThere(there) {
		return nil
	}
	return admin.Errorf(admin.CodeExists, "%s is there already", there).Then("With --replace it is kept beside under another name.")
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// explain turns an error of reading a backup into one for the person.
func (in Source) explain(err error) error {
	var known *admin.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, backup.ErrKey):
		return admin.Errorf(admin.CodeInvalid, "%s: %v; nothing was changed", in.Name, err).
			Then("What opens it is asked for at a terminal, or named by --passphrase-file or --identity.")
	case errors.Is(err, backup.ErrNewer):
		return admin.Errorf(admin.CodeInvalid, "%s: %v; nothing was changed", in.Name, err)
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, store.ErrDamaged):
		return admin.Errorf(admin.CodeInvalid, "%s is damaged or incomplete; nothing was changed", in.Name).Then("Try another backup.")
	}
	return err
}

// copyDatabase makes a box of a copy of a database, which is what a backup was at first.
func copyDatabase(ctx context.Context, cfg config.Config, in io.Reader, work, fresh string) (done Restored, err error) {
	copied := filepath.Join(work, "copy")
	f, err := os.OpenFile(copied, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return done, err
	}
	err = copyWithin(f, in, func(n int64) error { return room(cfg, n) })
	if err := errors.Join(err, f.Close()); err != nil {
		return done, err
	}
	sum, err := prepareRestore(ctx, copied, filepath.Join(fresh, StoreFile))
	switch {
	case errors.Is(err, store.ErrDamaged):
		return done, err
	case err != nil:
		return done, admin.Errorf(admin.CodeInvalid, "this is no backup that can be used: %s", strings.ReplaceAll(err.Error(), copied, "it"))
	}
	return Restored{
		Users: sum.Accounts, Messages: sum.Messages, Domains: sum.Domains, Schema: store.Schema(), Certificates: []string{}, Held: true,
	}, nil
}

// copyWithin copies as long as the disk has room for as much once more, which is what is made of it: what is compressed does not tell its size.
func copyWithin(w io.Writer, r io.Reader, room func(n int64) error) error {
	const step = 16 << 20
	for done := int64(0); ; {
		if err := room(done); err != nil {
			return err
		}
		n, err := io.CopyN(w, r, step)
		if done += n; errors.Is(err, io.EOF) {
			return room(done)
		}
		if err != nil {
			return err
		}
	}
}

// unpackInto makes a box of a stream, in a folder that it makes, checks it, and syncs it.
func unpackInto(ctx context.Context, cfg config.Config, in io.Reader, fresh string, restored bool, configFile string) (done Restored, err error) {
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return done, err
	}
	u := &unpack{dir: fresh, room: func(n int64) error { return room(cfg, n) }}
	_, _, err = backup.Read(in, u)
	if err := errors.Join(err, u.close()); err != nil {
		return done, err
	}
	path := filepath.Join(fresh, StoreFile)
	if !isThere(path) {
		return done, fmt.Errorf("there is no database in it: %w", backup.ErrDamaged)
	}
	sum, err := adopt(ctx, path, restored)
	if err != nil {
		return done, err
	}
	name, why, err := u.settleConfig(cfg.DataDir, configFile)
	if err != nil {
		return done, err
	}
	done = Restored{
		Users: sum.Accounts, Messages: sum.Messages, Domains: u.m.Domains, Schema: store.Schema(), Certificates: append([]string{}, u.certificates()...),
		Taken: u.m.Taken, Version: u.m.Version, Held: restored,
	}
	switch name {
	case configName:
		done.Config = filepath.Join(cfg.DataDir, name)
	case asideName:
		done.ConfigAside, done.ConfigWhy = filepath.Join(cfg.DataDir, name), why
		if isThere(filepath.Join(fresh, namedFolder)) {
			done.Named = filepath.Join(cfg.DataDir, namedFolder)
		}
	}
	return done, settleFiles(cfg.DataDir, fresh)
}

// room tells whether the disk can take a box of so many bytes.
func room(cfg config.Config, n int64) error {
	free, err := freeBytes(cfg.DataDir)
	if err != nil {
		return err
	}
	if left := free - n; left < int64(cfg.Store.Reserve) || left > free {
		return admin.Errorf(admin.CodeFailed, "the disk has no room for it: it takes up to %d MiB, %d MiB are free", n>>20, free>>20).
			Then("Free some space, or take a larger card.")
	}
	return nil
}

// install lets what was prepared take its place.
func (r *Restored) install(dir, fresh string) error {
	if err := settleFiles(dir, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(dir, installFolder)); err != nil {
		return err
	}
	if err := store.SyncDir(dir); err != nil {
		return err
	}
	placed, err := install(dir)
	r.Path, r.Kept, r.KeptTLS = filepath.Join(dir, StoreFile), placed.kept[StoreFile], placed.kept[tlsFolder]
	return err
}
