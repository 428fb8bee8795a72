package store

import (
	"errors"
	"fmt"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

// metaTable holds single values: the schema's number, the server's secret.
var metaTable = Table[string]{"meta"}

// migrations brings a file from schema n to n+1; its length is the schema of this version. A released
// migration is never changed.
var migrations = []func(*bolt.Tx) error{
	func(b *bolt.Tx) error { return createTables(b, schema1) },
	toSchema2,
	toSchema3,
}

func createTables(b *bolt.Tx, names []string) error {
	for _, name := range names {
		if _, err := b.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
	}
	return nil
}

// ErrNewer: the file has a schema that this version does not know.
var ErrNewer = errors.New("it was written by a newer pibox")

var errForeign = errors.New("this is a bbolt file, but not a pibox store")

func schemaOf(b *bolt.Tx) (int, error) {
	meta := b.Bucket([]byte(metaTable.name))
	if meta == nil {
		return 0, errForeign
	}
	have, err := strconv.Atoi(string(meta.Get([]byte("schema"))))
	if err != nil {
		return 0, errForeign
	}
	if have > len(migrations) {
		return 0, fmt.Errorf("the file has schema %d, this pibox knows up to %d: %w; install that version again, or restore a backup of this one",
			have, len(migrations), ErrNewer)
	}
	return have, nil
}

func migrate(b *bolt.Tx, from int) error {
	for n := from; n < len(migrations); n++ {
		if err := migrations[n](b); err != nil {
			return fmt.Errorf("migration to schema %d: %w", n+1, err)
		}
	}
	return b.Bucket([]byte(metaTable.name)).Put([]byte("schema"), []byte(strconv.Itoa(len(migrations))))
}

// Schema is the number of the schema that this version writes.
func Schema() int { return len(migrations) }
