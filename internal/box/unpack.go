package box

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/backup"
	"pibox/internal/config"
	"pibox/internal/store"
)

const (
	// configName is the configuration in the data folder, which counts where there is no other.
	configName = "pibox.toml"
	// asideName is that of one that does not fit this box, for its owner to compare.
	asideName = "pibox.toml.restored"
	// namedFolder has the files that it names.
	namedFolder = "named"
)

// ConfigPath is where a restored box has the configuration that it brought.
func ConfigPath(cfg config.Config) string { return filepath.Join(cfg.DataDir, configName) }

// unpack is a backup.Sink that makes a box of a stream in a folder.
type unpack struct {
	dir  string
	room func(n int64) error // whether so many bytes may come

	m      backup.Manifest
	loader *store.Loader
	certs  []string
}

// Begin implements backup.Sink.
func (u *unpack) Begin(m backup.Manifest) error {
	u.m = m
	if m.Schema > store.Schema() {
		return fmt.Errorf("it has a database of schema %d, this pibox knows up to %d: %w", m.Schema, store.Schema(), backup.ErrNewer)
	}
	return u.room(m.Size)
}

// Entry implements backup.Sink.
func (u *unpack) Entry(part, name string, size int64, r *bufio.Reader) (err error) {
	switch part {
	case backup.PartDatabase:
		if u.loader == nil {
			if u.loader, err = store.NewLoader(filepath.Join(u.dir, StoreFile)); err != nil {
				return err
			}
		}
		return u.loader.Load(r)
	case backup.PartTLS:
		if strings.HasSuffix(name, ".pem") {
			u.certs = append(u.certs, strings.TrimSuffix(name, ".pem"))
		}
		return u.small(filepath.Join(tlsFolder, name), size, r)
	case backup.PartConfiguration:
		return u.small(configName, size, r)
	case backup.PartFiles:
		return u.small(filepath.Join(namedFolder, name), size, r)
	}
	return fmt.Errorf("%s: %w", part, backup.ErrNewer)
}

func (u *unpack) small(name string, size int64, r *bufio.Reader) error {
	data, err := backup.ReadPart(name, size, r)
	if err != nil {
		return err
	}
	path := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// close completes the database.
func (u *unpack) close() error {
	if u.loader == nil {
		return nil
	}
	l := u.loader
	u.loader = nil
	return l.Close()
}

// settleConfig decides what becomes of the configuration that came: what counts from now on, or what its owner may compare. It returns the name of
// the file in the data folder.
func (u *unpack) settleConfig(dataDir, inUse string) (string, error) {
	path := filepath.Join(u.dir, configName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if inUse != "" {
		if have, err := os.ReadFile(inUse); err == nil && bytes.Equal(have, text) {
			return "", os.Remove(path)
		}
	}
	here, there := string(text), string(text) // with names of files as they are now, and as they will be
	for i, old := range u.m.Files {
		name := filepath.Join(namedFolder, fmt.Sprintf("%06d", i))
		if _, err := os.Stat(filepath.Join(u.dir, name)); err == nil {
			here = strings.ReplaceAll(here, quoted(old), quoted(filepath.Join(u.dir, name)))
			there = strings.ReplaceAll(there, quoted(old), quoted(filepath.Join(dataDir, name)))
		}
	}
	cfg, problems := config.Parse(path, here, time.Now())
	if inUse != "" || problems.Err() != nil || cfg.DataDir != "" && cfg.DataDir != dataDir {
		return asideName, os.Rename(path, filepath.Join(u.dir, asideName))
	}
	return configName, os.WriteFile(path, []byte(there), 0o600)
}

func quoted(path string) string { return `"` + path + `"` }

// certificates names those of the box's own authority that came along.
func (u *unpack) certificates() (list []string) {
	for _, name := range u.certs {
		if name != "authority" {
			list = append(list, name)
		}
	}
	return list
}
