package box

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"pibox/internal/config"
	"pibox/internal/store"
)

// Names of what is in the data folder only while it is worked on. A power cut may leave it there; whoever holds the store's lock may remove it.
const (
	// RestorePrefix begins the name of the folder in which a restore is prepared.
	RestorePrefix = "restore-"
	// PartPattern is the name, for os.CreateTemp, of a file that is not complete.
	PartPattern = ".pibox-*.part"
	// fetchPrefix begins the name of the folder in which a box that is being fetched is prepared.
	fetchPrefix = "fetch-"
	// backupPrefix begins the name of the folder in which earlier versions made backups.
	backupPrefix = "backup-in-progress-"
)

// removeLeftovers does nothing while somebody else works with the store, a restore for instance.
func removeLeftovers(cfg config.Config) {
	unlock, err := store.Lock(StorePath(cfg))
	if err != nil {
		return
	}
	defer unlock()
	dir := cfg.DataDir
	RemoveLeft(dir, backupPrefix)
	RemoveLeft(dir, RestorePrefix)
	RemoveLeft(dir, fetchPrefix)
	for _, path := range left(dir, PartPattern, fs.FileMode.IsRegular) {
		_ = os.Remove(path)
	}
}

// RemoveLeft removes the folders whose names begin with prefix.
func RemoveLeft(dir, prefix string) {
	for _, path := range left(dir, prefix+"*", fs.FileMode.IsDir) {
		_ = os.RemoveAll(path)
	}
}

// left are the things in a folder whose names os.CreateTemp or os.MkdirTemp made of pattern: with digits in the place of the star.
func left(dir, pattern string, kind func(fs.FileMode) bool) (list []string) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range all {
		if temporary(e.Name(), pattern) && kind(e.Type()) {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

func temporary(name, pattern string) bool {
	before, after, _ := strings.Cut(pattern, "*")
	random, ok := strings.CutPrefix(name, before)
	if !ok {
		return false
	}
	random, ok = strings.CutSuffix(random, after)
	return ok && random != "" && strings.Trim(random, "0123456789") == ""
}
