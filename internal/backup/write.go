package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pibox/internal/store"
)

// Part is something that belongs to the box. A later feature that keeps files of its own adds one.
type Part struct {
	Name string
	// Size is at least what Write writes, in bytes.
	Size func() (int64, error)
	// Write adds the entries.
	Write func(w *Writer) error
}

// Write writes the whole stream of a box: the manifest, whose Size it fills in, the parts in their order, the contents.
func Write(w io.Writer, m Manifest, parts []Part) (Manifest, error) {
	m.Format = Format
	for _, p := range parts {
		n, err := p.Size()
		if err != nil {
			return m, err
		}
		m.Size += n
	}
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	out := &Writer{tar: tar.NewWriter(w), at: m.Taken, known: names()}
	if err := out.entry(manifestName, int64(len(head)), func(w io.Writer) error { _, err := w.Write(head); return err }); err != nil {
		return m, err
	}
	for _, p := range parts {
		if err := p.Write(out); err != nil {
			return m, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	tail, err := json.Marshal(Contents{slices.Clone(out.list)})
	if err != nil {
		return m, err
	}
	if err := out.entry(contentsName, int64(len(tail)), func(w io.Writer) error { _, err := w.Write(tail); return err }); err != nil {
		return m, err
	}
	return m, out.tar.Close()
}

// Writer takes the entries of parts.
type Writer struct {
	tar   *tar.Writer
	at    time.Time
	known map[string]nameRule
	list  []Entry
}

// nameRule says which names the entries of a part may have.
type nameRule interface{ MatchString(string) bool }

// Bytes adds an entry.
func (w *Writer) Bytes(part, name string, data []byte) error {
	return w.Stream(part, name, int64(len(data)), func(w io.Writer) error { _, err := w.Write(data); return err })
}

// Stream adds an entry of exactly size bytes.
func (w *Writer) Stream(part, name string, size int64, write func(io.Writer) error) error {
	if rule := w.known[part]; rule == nil || !rule.MatchString(name) {
		return fmt.Errorf("%q is no name for a part of a backup", joinName(part, name))
	}
	sum := sha256.New()
	full := joinName(part, name)
	if err := w.entry(full, size, func(w io.Writer) error { return write(io.MultiWriter(w, sum)) }); err != nil {
		return err
	}
	w.list = append(w.list, Entry{full, size, hexSum(sum)})
	return nil
}

func (w *Writer) entry(name string, size int64, write func(io.Writer) error) error {
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.at.Truncate(time.Second), Format: tar.FormatUSTAR}
	if size >= 8<<30 {
		head.Format = tar.FormatPAX
	}
	if err := w.tar.WriteHeader(head); err != nil {
		return err
	}
	if err := write(w.tar); err != nil {
		return err
	}
	return w.tar.Flush() // fails where write did not write size bytes
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// Database is the part of a store's records.
func Database(sn store.Snapshot) Part {
	return Part{PartDatabase, func() (int64, error) { return sn.Size(), nil }, func(w *Writer) error {
		n := 0
		return sn.Dump(func(chunk []byte) error {
			defer func() { n++ }()
			return w.Bytes(PartDatabase, fmt.Sprintf("%06d", n), chunk)
		})
	}}
}

// Folder is the part of the small files in a folder, without folders in it and hidden files; none where there is no folder.
func Folder(part, dir string) Part {
	read := func(take func(name string, data []byte) error) error {
		list, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range list {
			if !e.Type().IsRegular() || e.Name()[0] == '.' {
				continue
			}
			data, readErr := readSmall(filepath.Join(dir, e.Name()))
			if readErr != nil {
				return readErr
			}
			if err := take(e.Name(), data); err != nil {
				return err
			}
		}
		return err
	}
	return Part{part, func() (n int64, err error) {
		err = read(func(_ string, data []byte) error { n += int64(len(data)) + slack; return nil })
		return n + slack, err
	}, func(w *Writer) error {
		return read(func(name string, data []byte) error { return w.Bytes(part, name, data) })
	}}
}

// slack is by how much a file may have grown when it is written, in bytes: a certificate is renewed.
const slack = 64 << 10

// File is the part of one small file; none where path is empty or there is no such file.
func File(part, name, path string) Part {
	read := func() ([]byte, error) {
		if path == "" {
			return nil, nil
		}
		data, err := readSmall(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return data, err
	}
	return Part{part, func() (int64, error) {
		data, err := read()
		return int64(len(data)) + slack, err
	}, func(w *Writer) error {
		data, err := read()
		if err != nil || data == nil {
			return err
		}
		return w.Bytes(part, name, data)
	}}
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxPart+1))
	if err == nil && len(data) > maxPart {
		err = fmt.Errorf("%s has more than %d bytes", path, maxPart)
	}
	if data == nil {
		data = []byte{}
	}
	return data, err
}
