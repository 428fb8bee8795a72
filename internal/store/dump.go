package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// A dump is the database as its records alone: free pages are not in it, and reading one touches no page that somebody else has written. It is a
// series of chunks, each of whole records:
//
//	'T' name, sequence     begins a table, also one without records; it goes on in the next chunks
//	'R' key, value         a record of that table
//
// Names, keys and values are a uvarint of the length and the bytes; the sequence is a uvarint.
const (
	dumpTable  = 'T'
	dumpRecord = 'R'

	// dumpChunk is the size at which a chunk ends, in bytes; its last record may go beyond it.
	dumpChunk = 1 << 20
	// dumpValue is the largest value of a dump, in bytes.
	dumpValue = 64 << 20
)

// Snapshot is the store at one moment.
type Snapshot struct {
	*Tx
	db *bolt.Tx
}

// Snapshot runs a long read. What is freed meanwhile stays in the file, and on a 32-bit box writers may wait for its end: read must not wait for
// anybody slow. A damaged page is an error.
func (s *Store) Snapshot(read func(Snapshot) error) (err error) {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return s.unavailable()
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(s.path, fmt.Errorf("%v", p))
		}
	}()
	return s.db.View(func(b *bolt.Tx) error {
		sn := Snapshot{&Tx{bolt: b}, b}
		return errors.Join(read(sn), sn.err)
	})
}

// Size is more than the dump has, in bytes.
func (sn Snapshot) Size() int64 { return sn.db.Size() }

// Dump hands out the chunks. emit must not keep one.
func (sn Snapshot) Dump(emit func(chunk []byte) error) error {
	d := &dumper{emit: emit}
	err := sn.db.ForEach(func(name []byte, table *bolt.Bucket) error {
		d.buf = append(d.buf, dumpTable)
		d.bytes(name)
		d.buf = binary.AppendUvarint(d.buf, table.Sequence())
		return table.ForEach(func(k, v []byte) error {
			if len(v) > dumpValue && string(name) == SMSessions.name {
				return nil // a client logs in anew instead; its messages are in the log
			}
			return d.record(k, v)
		})
	})
	if err != nil {
		return err
	}
	return d.flush()
}

type dumper struct {
	buf  []byte
	emit func([]byte) error
}

func (d *dumper) bytes(b []byte) {
	d.buf = append(binary.AppendUvarint(d.buf, uint64(len(b))), b...)
}

func (d *dumper) record(k, v []byte) error {
	if len(v) > dumpValue {
		return fmt.Errorf("store: a record of %d bytes can not be in a backup", len(v))
	}
	d.buf = append(d.buf, dumpRecord)
	d.bytes(k)
	d.bytes(v)
	if len(d.buf) < dumpChunk {
		return nil
	}
	return d.flush()
}

func (d *dumper) flush() error {
	if len(d.buf) == 0 {
		return nil
	}
	err := d.emit(d.buf)
	d.buf = d.buf[:0]
	if cap(d.buf) > 4*dumpChunk {
		d.buf = nil
	}
	return err
}

// Loader makes a database of a dump.
type Loader struct {
	db    *bolt.DB
	tx    *bolt.Tx
	table *bolt.Bucket
	name  []byte // of the table
	bytes int
	buf   bytes.Buffer
}

// loadBatch is what one transaction of a Loader takes, in bytes.
const loadBatch = 4 << 20

// NewLoader begins a file where there is none yet. It is complete after Close alone.
func NewLoader(path string) (*Loader, error) {
	o := boltOptions()
	o.NoSync = true
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		return nil, explain(path, err)
	}
	return &Loader{db: db}, nil
}

// byteReader is a reader of records and of numbers.
type byteReader interface {
	io.Reader
	io.ByteReader
}

// Load takes the next chunk, from r to its end. What can not be a chunk is ErrDamaged.
func (l *Loader) Load(r byteReader) error {
	for {
		kind, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch kind {
		case dumpTable:
			err = l.begin(r)
		case dumpRecord:
			err = l.record(r)
		default:
			err = fmt.Errorf("%w (no record begins with %#x)", ErrDamaged, kind)
		}
		if err != nil {
			return err
		}
	}
}

// field reads a length and so many bytes, which are valid until the next call. Memory is taken as they arrive.
func (l *Loader) field(r byteReader, limit uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err == nil && n > limit {
		err = fmt.Errorf("%d bytes in one field", n)
	}
	if err == nil {
		l.buf.Reset()
		_, err = io.CopyN(&l.buf, r, int64(n))
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return l.buf.Bytes(), nil
}

func (l *Loader) begin(r byteReader) error {
	raw, err := l.field(r, bolt.MaxKeySize)
	if err != nil {
		return err
	}
	name := bytes.Clone(raw)
	seq, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	if err := l.commit(); err != nil { // the first transaction, too
		return err
	}
	if l.table, err = l.tx.CreateBucketIfNotExists(name); err != nil {
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	l.table.FillPercent, l.name = 0.9, name
	return l.table.SetSequence(seq)
}

func (l *Loader) record(r byteReader) error {
	raw, err := l.field(r, bolt.MaxKeySize)
	if err != nil {
		return err
	}
	key := bytes.Clone(raw)
	value, err := l.field(r, dumpValue)
	if err != nil {
		return err
	}
	if l.table == nil {
		return fmt.Errorf("%w (a record without a table)", ErrDamaged)
	}
	if err := l.table.Put(key, bytes.Clone(value)); err != nil { // bbolt keeps it until the commit
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	l.bytes += len(key) + len(value)
	if l.bytes < loadBatch {
		return nil
	}
	return l.commit()
}

// commit ends the transaction and begins the next, in the same table.
func (l *Loader) commit() error {
	if l.tx != nil {
		if err := l.tx.Commit(); err != nil {
			return explain(l.db.Path(), err)
		}
	}
	var err error
	l.bytes = 0
	if l.tx, err = l.db.Begin(true); err != nil {
		return err
	}
	if l.name != nil {
		l.table = l.tx.Bucket(l.name)
		l.table.FillPercent = 0.9 // keys come in their order
	}
	return nil
}

// Close syncs what was loaded.
func (l *Loader) Close() error {
	var err error
	if l.tx != nil {
		err = l.tx.Commit()
	}
	return errors.Join(err, l.db.Sync(), l.db.Close())
}
