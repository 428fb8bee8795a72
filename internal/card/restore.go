package card

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names that the daemon looks for in Place.Run/RestoreFolder (internal/box), and a person may use, too.
const (
	restoreBackup = "pibox-restore.age"
	restoreKey    = "pibox-restore.txt"
)

// restore lays a backup ready for a box without a database, and forgets what opens it for a box with one. hold tells why the daemon must not
// begin as a new family.
func (b *boot) restore() (hold string) {
	if isThere(b.Store) {
		b.forget()
		return ""
	}
	found, dir := b.backup()
	if found == "" {
		if b.kept.Passphrase == "" {
			return ""
		}
		return "the pass phrase of a backup is in " + FileName + ", but no backup (a file ending with .age or .pibox) is on the card or a USB stick: put it there, or write passphrase = \"-\" to begin as a new family"
	}
	to := filepath.Join(b.Run, RestoreFolder)
	err := errors.Join(ensure(os.Mkdir(to, 0o770)), os.Chmod(to, 0o770), os.Chown(to, -1, b.gid))
	if err == nil {
		_ = os.Remove(filepath.Join(to, restoreBackup))
		err = os.Symlink(found, filepath.Join(to, restoreBackup))
	}
	if err == nil {
		err = b.restoreKey(filepath.Join(to, restoreKey), dir)
	}
	if err != nil {
		return filepath.Base(found) + " can not be restored: " + err.Error()
	}
	return ""
}

// none, as a pass phrase, takes back that one was given.
const none = "-"

func (b *boot) restoreKey(to, dir string) error {
	secret := []byte(b.kept.Passphrase)
	if len(secret) == 0 {
		for _, path := range named(dir, restoreKey) {
			raw, err := read(path)
			if err != nil {
				return err
			}
			secret = raw
		}
	}
	if len(secret) == 0 {
		return nil
	}
	return errors.Join(writeRun(to, secret, 0o640), os.Chown(to, -1, b.gid))
}

// backup looks on the card, then on a stick.
func (b *boot) backup() (path, dir string) {
	if b.kept.Passphrase == none {
		b.kept.Passphrase = ""
		b.try("keep", b.save(b.kept))
		return "", ""
	}
	if path := newestBackup(b.FAT); path != "" {
		return path, b.FAT
	}
	dir, err := b.Host.Stick()
	if err != nil {
		b.add("stick", Degraded, "the USB stick can not be read: "+err.Error())
	}
	if dir == "" {
		return "", ""
	}
	return newestBackup(dir), dir
}

// newestBackup is pibox-restore.age, else the last by its name.
func newestBackup(dir string) string {
	if list := named(dir, restoreBackup); len(list) > 0 {
		return list[0]
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range list {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") && (ext == ".age" || ext == ".pibox") { // "._": macOS
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return filepath.Join(dir, slices.Max(names))
}

// forget removes what opens a backup.
func (b *boot) forget() {
	if b.kept.Passphrase != "" {
		b.kept.Passphrase = ""
		b.try("keep", b.save(b.kept))
	}
	for _, path := range named(b.FAT, restoreKey) {
		err := b.Host.Writable(b.FAT, func() error {
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && info.Size() <= maxFile {
				err = b.disk.Overwrite(path, []byte(strings.Repeat(" ", int(info.Size()))))
			}
			return errors.Join(err, b.disk.Remove(path))
		})
		if err != nil {
			b.add("restore", Degraded, filepath.Base(path)+" opens a backup of this box, which it does not need any more: remove it")
		}
	}
}
