package backup

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Sink takes what Read reads. Nothing of it is to be relied on before Read has returned without an error.
type Sink interface {
	// Begin is told what will come; an error refuses it.
	Begin(m Manifest) error
	// Entry takes one, to the end of r, and must not go on reading after it returned.
	Entry(part, name string, size int64, r *bufio.Reader) error
}

// Read reads a whole stream and checks it: that it is complete, holds what it says in its contents and nothing else, and no more than its
// manifest announced. The error is ErrDamaged or ErrNewer, one of r, or the sink's.
func Read(r io.Reader, sink Sink) (Manifest, Contents, error) {
	in := &reader{tar: tar.NewReader(r), buf: bufio.NewReaderSize(nil, 64<<10), known: names()}
	m, err := in.manifest()
	if err != nil {
		return m, Contents{}, err
	}
	if err := sink.Begin(m); err != nil {
		return m, Contents{}, err
	}
	told, err := in.entries(m, sink)
	if err != nil {
		return m, Contents{}, err
	}
	if !slices.Equal(told.Entries, in.list) {
		return m, Contents{}, damaged("its contents are not what it lists")
	}
	return m, told, in.end(r)
}

type reader struct {
	tar   *tar.Reader
	buf   *bufio.Reader
	known map[string]nameRule
	list  []Entry
	bytes int64
}

// next is the next file of the stream.
func (in *reader) next() (*tar.Header, error) {
	h, err := in.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, damaged("it ends too early")
	case err != nil:
		return nil, notStream(err)
	case h.Typeflag != tar.TypeReg || h.Size < 0 || h.Linkname != "":
		return nil, damaged("%q is no plain file", h.Name)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // its size may be anything
			return nil, damaged("%q is no plain file", h.Name)
		}
	}
	return h, nil
}

// notStream makes ErrDamaged of the errors of tar, zstd and age, which tell the same in many ways. Those of a disk or connection are left alone.
func notStream(err error) error {
	var io interface{ Timeout() bool } // *fs.PathError, net.Error
	if errors.As(err, &io) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrKey) {
		return err
	}
	return damaged("%w", err)
}

func (in *reader) manifest() (m Manifest, err error) {
	h, err := in.next()
	if err != nil {
		return m, err
	}
	if h.Name != manifestName || h.Size > maxManifest {
		return m, damaged("it does not begin with a manifest")
	}
	if err := in.json(&m); err != nil {
		return m, err
	}
	return m, m.check()
}

func (in *reader) json(v any) error {
	raw, err := io.ReadAll(in.tar)
	if err != nil {
		return notStream(err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return damaged("%w", err)
	}
	return nil
}

// entries reads all parts, and the contents behind them.
func (in *reader) entries(m Manifest, sink Sink) (told Contents, err error) {
	last := map[string]string{}
	for {
		h, err := in.next()
		if err != nil {
			return told, err
		}
		if h.Name == contentsName {
			if h.Size > maxContents || h.Size > int64(1+len(in.list))*maxListed {
				return told, damaged("%q has %d bytes", h.Name, h.Size)
			}
			return in.contents()
		}
		part, name := splitName(h.Name)
		rule := in.known[part]
		if rule == nil || !rule.MatchString(name) || joinName(part, name) != h.Name {
			return told, damaged("%q is no name of an entry", h.Name)
		}
		if before, ok := last[part]; ok && before >= name { // parts are written in the order of their names
			return told, damaged("%q is there twice, or out of order", h.Name)
		}
		last[part] = name
		if in.bytes += h.Size; in.bytes > m.Size || in.bytes < 0 || len(in.list) >= maxEntries {
			return told, damaged("it has more than the %d bytes that it announced", m.Size)
		}
		if err := in.entry(part, name, h, sink); err != nil {
			return told, err
		}
	}
}

// contents reads the list behind the parts, an entry at a time: one that lists more than there was is refused before it is in memory.
func (in *reader) contents() (told Contents, err error) {
	dec := json.NewDecoder(in.tar)
	err = inside(dec, '{', '}', func() error {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if key != "entries" {
			var other json.RawMessage
			return dec.Decode(&other)
		}
		return inside(dec, '[', ']', func() error {
			if len(told.Entries) == len(in.list) {
				return errors.New("its contents are not what it lists")
			}
			var e Entry
			err := dec.Decode(&e)
			told.Entries = append(told.Entries, e)
			return err
		})
	})
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return told, nil
		}
		err = errors.Join(err, errors.New("something follows its contents"))
	}
	return told, notStream(err)
}

// inside calls each for what is in the next object or array; null is an empty one.
func inside(dec *json.Decoder, begin, end json.Delim, each func() error) error {
	switch first, err := dec.Token(); {
	case err != nil:
		return err
	case first == nil:
		return nil
	case first != begin:
		return fmt.Errorf("%v instead of %v", first, begin)
	}
	for dec.More() {
		if err := each(); err != nil {
			return err
		}
	}
	last, err := dec.Token()
	if err == nil && last != end {
		err = fmt.Errorf("%v instead of %v", last, end)
	}
	return err
}

func (in *reader) entry(part, name string, h *tar.Header, sink Sink) error {
	sum := sha256.New()
	from := &marked{r: io.TeeReader(in.tar, sum)}
	in.buf.Reset(from)
	err := sink.Entry(part, name, h.Size, in.buf)
	if from.err != nil { // then the sink's error only follows from it
		return notStream(from.err)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in.buf); err != nil {
		return notStream(err)
	}
	in.list = append(in.list, Entry{h.Name, h.Size, hexSum(sum)})
	return nil
}

// marked keeps the error of a reader apart from that of whoever reads it.
type marked struct {
	r   io.Reader
	err error
}

func (m *marked) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

// maxBehind is how many zero bytes may follow the end of the tar stream.
const maxBehind = 1 << 20

// end reads to the end of the stream: before it, age has not seen that the file is whole.
func (in *reader) end(r io.Reader) error {
	if _, err := in.tar.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("something follows its contents")
		}
		return notStream(err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxBehind))
	if err != nil {
		return notStream(err)
	}
	if n == maxBehind {
		return damaged("something follows its end")
	}
	return nil
}

// Verify reads a stream whole and keeps nothing.
func Verify(r io.Reader) (Manifest, Contents, error) { return Read(r, nowhere{}) }

type nowhere struct{}

func (nowhere) Begin(Manifest) error                              { return nil }
func (nowhere) Entry(_, _ string, _ int64, _ *bufio.Reader) error { return nil }

// ReadPart reads an entry that is small.
func ReadPart(name string, size int64, r io.Reader) ([]byte, error) {
	if size > maxPart {
		return nil, damaged("%q has %d bytes", name, size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}
