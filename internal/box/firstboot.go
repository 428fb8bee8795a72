package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pibox/internal/backup"
	"pibox/internal/health"
)

// What a box without a database looks for (config backup.restore_from). All that begins a new one lies on a card or stick that a person made elsewhere.
const (
	firstBackup = "pibox-restore.age"
	anyBackup   = "pibox-*.age"
	// firstKey has the pass phrase in its first line, or identities of age.
	firstKey = "pibox-restore.txt"
	// doneSuffix marks a backup that was restored.
	doneSuffix = ".restored"

	maxKeyFile = 64 << 10 // bytes
)

// firstBoot is what a box without a database found.
type firstBoot struct{ backup, key string }

// find looks for a backup in the folders, in their order. The newest by its name counts.
func find(folders []string) (firstBoot, bool) {
	for _, dir := range folders {
		list, err := filepath.Glob(filepath.Join(globbed(dir), anyBackup))
		if err != nil || len(list) == 0 {
			continue
		}
		slices.Sort(list)
		found := firstBoot{list[len(list)-1], filepath.Join(dir, firstKey)}
		if named := filepath.Join(dir, firstBackup); slices.Contains(list, named) {
			found.backup = named
		}
		return found, true
	}
	return firstBoot{}, false
}

// globbed is a path that a pattern matches as it is.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// keys reads what opens the backup.
func (f firstBoot) keys() (*backup.Keys, error) {
	raw, err := os.ReadFile(f.key)
	if errors.Is(err, fs.ErrNotExist) {
		return &backup.Keys{}, nil
	}
	if err == nil && len(raw) > maxKeyFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("%s can not be read: %w", f.key, err)
	}
	text := strings.TrimPrefix(string(raw), "\ufeff") // Windows' editor begins a file with it
	if strings.Contains(text, "AGE-SECRET-KEY-") {
		ids, err := backup.ParseIdentities(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		return &backup.Keys{Identities: ids}, nil
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	return &backup.Keys{Passphrase: func() (string, error) { return line, nil }}, nil
}

// stamp changes with the files. A failure is not tried again before: a wrong pass phrase costs seconds and much memory each time.
func (f firstBoot) stamp() (s string) {
	for _, path := range []string{f.backup, f.key} {
		if info, err := os.Stat(path); err == nil {
			s += fmt.Sprint(path, info.Size(), info.ModTime().UnixNano(), "\n")
		}
	}
	return s
}

// firstStart restores what lies ready for a box that has no database yet. An error keeps it from beginning as an empty new one.
func (d *Daemon) firstStart(ctx context.Context) error {
	found, ok := find(d.restoreFrom())
	if !ok {
		d.first.stamp, d.first.err = "", nil
		return d.mayBegin()
	}
	if stamp := found.stamp(); d.first.err != nil && d.first.stamp == stamp {
		return d.first.err
	}
	d.first.stamp = found.stamp()
	done, err := d.restoreFirst(ctx, found)
	if err != nil {
		err = fmt.Errorf("%s could not be restored (%w): put the right %s beside it, or take it away to begin as a new family", found.backup, err, firstKey)
		d.first.err = err
		return err
	}
	d.log.Info("restored a backup", "file", found.backup, "accounts", done.Users, "messages", done.Messages, "domains", done.Domains, "taken", done.Taken,
		"configuration", done.Config, "configuration beside", done.ConfigAside, "because", done.ConfigWhy)
	d.tidyUp(found)
	if done.Config != "" {
		return d.reload()
	}
	return nil
}

func (d *Daemon) restoreFirst(ctx context.Context, found firstBoot) (done Restored, err error) {
	keys, err := found.keys()
	if err != nil {
		return done, err
	}
	f, err := os.Open(found.backup)
	if err != nil {
		return done, err
	}
	defer func() { _ = f.Close() }()
	return Restore(ctx, d.config(), Source{Reader: f, Name: filepath.Base(found.backup), Keys: keys, Config: d.configFile()})
}

const factLeft = "restored"

// tidyUp marks the backup as done and takes the key away. It is not restored twice in any case: there is a database now.
func (d *Daemon) tidyUp(found firstBoot) {
	if err := os.Rename(found.backup, found.backup+doneSuffix); err != nil {
		d.log.Warn("the backup that was restored keeps its name", "error", err)
	}
	if err := os.Remove(found.key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("what opens the backup could not be removed", "error", err)
	}
}

// watchKeys tells of what opens backups and lies where anybody who has the card or stick reads it. A power cut, or a folder that the box may only
// read, leaves it there.
func (d *Daemon) watchKeys() {
	if d.running() == nil {
		return
	}
	for _, dir := range d.restoreFrom() {
		if path := filepath.Join(dir, firstKey); isThere(path) {
			d.health.Set(health.Fact{Name: factLeft, Severity: health.Degraded, Text: path + " opens a backup of this box, which it does not need any more: remove it."})
			return
		}
	}
	d.health.Clear(factLeft)
}

// reload takes up the configuration that a restore brought.
func (d *Daemon) reload() error {
	if d.source.Load == nil {
		return nil
	}
	cfg, err := d.source.Load()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	cfg.Admin = d.cfg.Admin // it listens already
	d.cfg = cfg
	return nil
}

// firstTry is what became of a first start.
type firstTry struct {
	stamp string
	err   error
}
