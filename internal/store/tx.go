package store

import (
	"bytes"
	"crypto/cipher"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Tx is one transaction. After the first failure all its reads answer "absent" and its writes do nothing; the operation fails.
type Tx struct {
	bolt     *bolt.Tx
	writable bool
	writes   int
	effects  []func()
	err      error
	ids      cipher.Block            // of LogID, once it was needed
	found    map[string]*bolt.Bucket // of a read transaction, for which bbolt keeps none
	batch    uint64
}

// Batch numbers the transaction on disk that the operation runs in, from 1 on. Operations with one number become durable together; when a
// batch is run again it gets another one. Zero in a View.
func (tx *Tx) Batch() uint64 { return tx.batch }

// OnCommit queues an effect that happens after the transaction is synced, in the order of the calls, from the committer's goroutine: it
// must not block. In a View it is dropped.
func (tx *Tx) OnCommit(f func()) { tx.effects = append(tx.effects, f) }

// Wrote tells whether the operation changed anything so far.
func (tx *Tx) Wrote() bool { return tx.writes > 0 }

// Err is the failure that sticks to the transaction.
func (tx *Tx) Err() error { return tx.err }

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// Key joins the parts of a key. Parts hold no NUL (JIDs and node names can not).
func Key(parts ...string) string { return strings.Join(parts, "\x00") }

// SeqKey is a key whose last part is a number; keys with one prefix sort by it.
func SeqKey(seq uint64, parts ...string) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seq)
	if len(parts) == 0 {
		return string(b[:])
	}
	return Key(parts...) + "\x00" + string(b[:])
}

// SeqOf is the number at the end of a key that SeqKey made.
func SeqOf(key string) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(key[len(key)-8:]))
}

// Table is one kind of record: a bucket whose values are T as JSON, or in T's own binary form where it has one.
type Table[T any] struct{ name string }

// Get reads one record.
func (t Table[T]) Get(tx *Tx, key string) (v T, ok bool) {
	b := tx.bucket(t.name)
	if b == nil {
		return v, false
	}
	raw := b.Get([]byte(key))
	if raw == nil {
		return v, false
	}
	return t.decode(tx, key, raw)
}

// Has tells whether there is a record.
func (t Table[T]) Has(tx *Tx, key string) bool {
	b := tx.bucket(t.name)
	return b != nil && b.Get([]byte(key)) != nil
}

func (t Table[T]) decode(tx *Tx, key string, raw []byte) (v T, ok bool) {
	var err error
	if own, binary := any(&v).(encoding.BinaryUnmarshaler); binary {
		err = own.UnmarshalBinary(raw)
	} else {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		tx.damagedRecord(t.name, []byte(key), err)
		return v, false
	}
	return v, true
}

// Put writes one record.
func (t Table[T]) Put(tx *Tx, key string, v T) {
	var raw []byte
	var err error
	if own, binary := any(v).(encoding.BinaryMarshaler); binary {
		raw, err = own.MarshalBinary()
	} else {
		raw, err = json.Marshal(v)
	}
	if err != nil {
		tx.fail(fmt.Errorf("store: table %s, key %q: %w", t.name, key, err))
		return
	}
	tx.put(t.name, key, raw)
}

// Delete removes one record; that there is none is no failure.
func (t Table[T]) Delete(tx *Tx, key string) { tx.delete(t.name, key) }

func (tx *Tx) delete(table, key string) {
	b := tx.bucket(table)
	if b == nil || b.Get([]byte(key)) == nil {
		return
	}
	tx.writes++
	if err := b.Delete([]byte(key)); err != nil {
		tx.fail(err)
	}
	tx.countAccounts(table, b)
}

// Append writes a record under the parts and the table's next number, which is never given twice.
func (t Table[T]) Append(tx *Tx, v T, parts ...string) (seq uint64) {
	b := tx.bucket(t.name)
	if b == nil || !tx.writable {
		tx.fail(bolterrors.ErrTxNotWritable)
		return 0
	}
	seq, err := b.NextSequence()
	if err != nil {
		tx.fail(err)
		return 0
	}
	t.Put(tx, SeqKey(seq, parts...), v)
	return seq
}

// All iterates, in key order, over the records whose key begins with the parts and a separator; without parts over all. The records
// may be deleted and overwritten meanwhile.
func (t Table[T]) All(tx *Tx, parts ...string) func(yield func(string, T) bool) {
	return t.From(tx, "", parts...)
}

// From is All, beginning at the first key that is not below start.
func (t Table[T]) From(tx *Tx, start string, parts ...string) func(yield func(string, T) bool) {
	return func(yield func(string, T) bool) {
		b := tx.bucket(t.name)
		if b == nil {
			return
		}
		var prefix []byte
		if len(parts) > 0 {
			prefix = []byte(Key(parts...) + "\x00")
		}
		seek := prefix
		if start > string(prefix) {
			seek = []byte(start)
		}
		c := b.Cursor()
		for k, raw := c.Seek(seek); k != nil && bytes.HasPrefix(k, prefix); {
			key, writes := string(k), tx.writes
			v, ok := t.decode(tx, key, raw)
			if !ok || !yield(key, v) {
				return
			}
			if tx.writes == writes {
				k, raw = c.Next()
				continue
			}
			if k, raw = c.Seek([]byte(key)); string(k) == key { // a write invalidates the cursor
				k, raw = c.Next()
			}
		}
	}
}

// Count counts the records under the parts.
func (t Table[T]) Count(tx *Tx, parts ...string) (n int) {
	n, _ = t.Size(tx, parts...)
	return n
}

// Size is Count, and the bytes of these records with their keys.
func (t Table[T]) Size(tx *Tx, parts ...string) (n, size int) {
	b := tx.bucket(t.name)
	if b == nil {
		return 0, 0
	}
	prefix := []byte(Key(parts...) + "\x00")
	c := b.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		n++
		size += len(k) + len(v)
	}
	return n, size
}

// Clear deletes the records under the parts.
func (t Table[T]) Clear(tx *Tx, parts ...string) {
	b := tx.bucket(t.name)
	if b == nil || len(parts) == 0 {
		return
	}
	prefix := []byte(Key(parts...) + "\x00")
	c := b.Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		tx.writes++
		if err := b.Delete(k); err != nil {
			tx.fail(err)
			return
		}
	}
}

func (tx *Tx) damagedRecord(table string, key []byte, err error) {
	tx.fail(fmt.Errorf("store: table %s, key %q: %w", table, key, err))
}

func (tx *Tx) bucket(name string) *bolt.Bucket {
	if tx.err != nil {
		return nil
	}
	if b := tx.found[name]; b != nil {
		return b
	}
	b := tx.bolt.Bucket([]byte(name))
	switch {
	case b == nil:
		tx.fail(fmt.Errorf("store: there is no table %s", name))
	case !tx.writable:
		if tx.found == nil {
			tx.found = map[string]*bolt.Bucket{}
		}
		tx.found[name] = b
	}
	return b
}

func (tx *Tx) put(table, key string, raw []byte) {
	b := tx.bucket(table)
	if b == nil {
		return
	}
	if !tx.writable {
		tx.fail(bolterrors.ErrTxNotWritable)
		return
	}
	if old := b.Get([]byte(key)); old != nil && bytes.Equal(old, raw) {
		return // nothing changes: no wear
	}
	tx.writes++
	if err := b.Put([]byte(key), raw); err != nil {
		tx.fail(fmt.Errorf("store: table %s: %w", table, err))
	}
	tx.countAccounts(table, b)
}

// countAccounts is what [AccountsVersion] reads.
func (tx *Tx) countAccounts(table string, b *bolt.Bucket) {
	if table != Accounts.name {
		return
	}
	if _, err := b.NextSequence(); err != nil {
		tx.fail(err)
	}
}

// AccountsVersion changes with every change of an account: what somebody worked out of all of them holds as long as it stays.
func AccountsVersion(tx *Tx) uint64 {
	b := tx.bucket(Accounts.name)
	if b == nil {
		return 0
	}
	return b.Sequence()
}
