package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// SettingHandover names the setting in which a box keeps that it is being, or was, handed over to another one.
const SettingHandover = "handover"

// Summary tells what a database holds.
type Summary struct {
	Accounts int `json:"accounts"`
	Messages int `json:"messages"`
	// Domains of the accounts, in their order.
	Domains []string `json:"domains"`
}

// Restore puts the database of a backup where there is none yet. The backup is checked whole first; it is not changed.
func Restore(backup, path string) (sum Summary, err error) {
	if err := Check(backup); err != nil {
		return sum, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return sum, err
	}
	err = install(path, func(tmp string) error {
		src, err := bolt.Open(backup, 0o400, &bolt.Options{ReadOnly: true})
		if err != nil {
			return explain(backup, err)
		}
		err = src.View(func(b *bolt.Tx) error { return b.CopyFile(tmp, 0o600) })
		if err := errors.Join(err, src.Close()); err != nil {
			return err
		}
		sum, err = adopt(tmp, true)
		return err
	})
	return sum, err
}

// Adopt checks a file that came from another box whole and makes it one to serve from. One that is restored from a backup is held, and nothing that
// was given out since the backup is given out again; one that the other box handed over goes on where that one stopped.
func Adopt(path string, restored bool) (Summary, error) {
	if err := Check(path); err != nil {
		return Summary{}, err
	}
	return adopt(path, restored)
}

func adopt(path string, restored bool) (sum Summary, err error) {
	db, err := bolt.Open(path, 0o600, boltOptions())
	if err != nil {
		return sum, explain(path, err)
	}
	err = db.Update(func(b *bolt.Tx) error {
		tx := &Tx{bolt: b, writable: true}
		Settings.Delete(tx, SettingHandover)
		if restored {
			newEpoch(tx)
			SetHeld(tx, true)
		}
		if sum = summary(tx); tx.err != nil {
			return damaged(path, tx.err)
		}
		return nil
	})
	return sum, errors.Join(err, db.Close())
}

// newEpoch tells clients that the versions they were given since the backup mean nothing any more, and keeps the log from giving its numbers again.
func newEpoch(tx *Tx) {
	raw, err := json.Marshal(rand.Text())
	if err != nil {
		tx.fail(err)
	}
	Settings.Put(tx, SettingEpoch, raw)
	if tx.bolt.Bucket([]byte(logTail.name)) != nil { // else it is of schema 1, and gets a new key for its ids
		skipLog(tx)
	}
}

// summary reads a database of any schema.
func summary(tx *Tx) Summary {
	sum, domains := Summary{}, map[string]bool{}
	for key := range Accounts.All(tx) {
		sum.Accounts++
		_, domain, _ := strings.Cut(key, "@")
		domains[domain] = true
	}
	for _, name := range []string{logTable.name, logTail.name, offline.name} {
		if b := tx.bolt.Bucket([]byte(name)); b != nil {
			sum.Messages += b.Stats().KeyN
		}
	}
	sum.Domains = slices.Sorted(maps.Keys(domains))
	return sum
}

// Summary tells what the snapshot holds.
func (sn Snapshot) Summary() Summary { return summary(sn.Tx) }
