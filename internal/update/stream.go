package update

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"pibox/internal/admin"
)

// Stream is an update file that is read from its beginning to its end.
type Stream interface {
	io.Reader
	// Skip leaves out n bytes.
	Skip(n int64) error
	io.Closer
}

// Opened is an update whose signature was verified. Its chunks follow.
type Opened struct {
	Manifest
	Stream
}

// Open opens a file or a URL (http, https) and verifies the signature by one of the keys. Errors are *admin.Error where a person can do
// something.
func Open(ctx context.Context, name string, keys []ed25519.PublicKey) (*Opened, error) {
	s, err := openStream(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(s, keys)
	if err == nil {
		if f, ok := s.(sized); ok {
			err = f.rest(m.Packed())
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Opened{m, s}, nil
}

// sized is a stream that may know how long it is.
type sized interface {
	// rest tells whether want more bytes are what is left of it.
	rest(want int64) error
}

func openStream(ctx context.Context, name string) (Stream, error) {
	if isURL(name) {
		return openURL(ctx, name, defaultPatience())
	}
	return openFile(name)
}

func isURL(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && !strings.Contains(scheme, "/")
}

type fileStream struct{ *os.File }

func openFile(name string) (Stream, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, admin.Errorf(admin.CodeNotFound, "%s: there is no such file", name)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe would wait for ever
		return nil, admin.Errorf(admin.CodeInvalid, "%s is no file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return fileStream{f}, nil
}

func (f fileStream) Skip(n int64) error {
	_, err := f.Seek(n, io.SeekCurrent)
	return err
}

func (f fileStream) rest(want int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err == nil && info.Size()-at != want {
		err = errTruncated
	}
	return err
}
