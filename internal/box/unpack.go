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
// the file in the data folder, and why it does not count.
func (u *unpack) settleConfig(dataDir, inUse string) (name, why string, err error) {
	path := filepath.Join(u.dir, configName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	if inUse != "" {
		if have, err := os.ReadFile(inUse); err == nil && bytes.Equal(have, text) {
			return "", "", os.Remove(path)
		}
		why = "this box has a configuration of its own, " + inUse
	} else if text, err = u.fitting(path, string(text), dataDir); err != nil {
		why = "it does not fit here: " + strings.ReplaceAll(strings.ReplaceAll(err.Error(), path, filepath.Join(dataDir, asideName)), u.dir, dataDir)
	}
	if why != "" {
		return asideName, why, os.Rename(path, filepath.Join(u.dir, asideName))
	}
	return configName, "", os.WriteFile(path, text, 0o600)
}

// fitting is the text of a configuration with the names of files as they will be here. It is checked with those as they are now.
func (u *unpack) fitting(path, text, dataDir string) ([]byte, error) {
	came := config.ParseWith(path, text, time.Now(), &struct{}{})
	here, there := make([]string, len(came.Written)), make([]string, len(came.Written))
	for i, written := range came.Written {
		if name := u.named(i, written); name != "" {
			here[i], there[i] = filepath.Join(u.dir, name), filepath.Join(dataDir, name)
		}
	}
	cfg, problems := config.Parse(path, came.WithFiles(text, here), time.Now())
	if err := problems.Mistakes().Err(); err != nil {
		return nil, err
	}
	if cfg.DataDir != "" && cfg.DataDir != dataDir {
		return nil, fmt.Errorf("its data_dir is %s, that of this box %s", cfg.DataDir, dataDir)
	}
	return []byte(came.WithFiles(text, there)), nil
}

// named is where the file is that the i-th name in the configuration means, "" where it did not come along. The manifest has what was in use, in the
// same order; the configuration may have been changed since.
func (u *unpack) named(i int, written string) string {
	find := func(i int) string {
		name := filepath.Join(namedFolder, fmt.Sprintf("%06d", i))
		if i >= len(u.m.Files) || !means(written, u.m.Files[i]) || !isThere(filepath.Join(u.dir, name)) {
			return ""
		}
		return name
	}
	if name := find(i); name != "" {
		return name
	}
	for j := range u.m.Files {
		if name := find(j); name != "" {
			return name
		}
	}
	return ""
}

// means tells whether a name in a configuration, in a folder that is not known, can be that of the file with the absolute path.
func means(written, path string) bool {
	if filepath.IsAbs(written) {
		return filepath.Clean(written) == filepath.Clean(path)
	}
	end := filepath.Clean(written)
	for strings.HasPrefix(end, "../") {
		end = end[len("../"):]
	}
	return strings.HasSuffix(filepath.Clean(path), "/"+end)
}

// certificates names those of the box's own authority that came along.
func (u *unpack) certificates() (list []string) {
	for _, name := range u.certs {
		if name != "authority" {
			list = append(list, name)
		}
	}
	return list
}
