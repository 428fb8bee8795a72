package portable

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"pibox/internal/xmpp"
)

// Folder opens the files of an export for Reader.Include: those in the folder of the main file and below, by relative names alone. Nothing leads out of
// it, no link is followed, and each file is read once.
type Folder struct {
	root *os.Root
	seen map[string]bool
}

// OpenFolder opens the folder of an export's main file, and that file.
func OpenFolder(file string) (*Folder, *os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, nil, err
	}
	d := &Folder{root: root, seen: map[string]bool{filepath.Base(file): true}}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err == nil {
		err = regular(f)
	}
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	return d, f, nil
}

// Close closes the folder.
func (d *Folder) Close() error { return d.root.Close() }

var (
	errHref    = errors.New("only files in the export's own folder are included, by relative names")
	errTwice   = errors.New("the file is included already")
	errRegular = errors.New("it is no plain file")
)

func regular(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "read", Path: f.Name(), Err: errRegular}
	}
	return err
}

// Open is for Reader.Include.
func (d *Folder) Open(from, href string) (io.ReadCloser, string, error) {
	name, err := relative(from, href)
	if err != nil {
		return nil, "", err
	}
	if d.seen[name] {
		return nil, "", errTwice
	}
	for at := range len(name) + 1 { // neither the file nor a folder on the way may be a link
		if at < len(name) && name[at] != '/' {
			continue
		}
		info, err := d.root.Lstat(name[:at])
		switch {
		case err != nil:
			return nil, "", err
		case at < len(name) && !info.IsDir(), at == len(name) && !info.Mode().IsRegular():
			return nil, "", errRegular
		}
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, "", err
	}
	if err := regular(f); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	d.seen[name] = true
	return f, name, nil
}

// relative is the file that a reference in another file names, both counted from the folder.
func relative(from, href string) (string, error) {
	u, err := url.Parse(href)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path == "" {
		return "", errHref
	}
	if strings.ContainsAny(u.Path, "\\\x00") || strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") {
		return "", errHref
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if part == "" || part == "." || part == ".." {
			return "", errHref
		}
	}
	return path.Join(path.Dir(from), u.Path), nil
}

// Includes tells the size of a file, and whether it may include others.
func Includes(f io.Reader) (size int64, includes bool, err error) {
	buf := make([]byte, 256<<10)
	kept := 0 // of the end of what was read before
	for {
		n, err := f.Read(buf[kept:])
		size += int64(n)
		b := buf[:kept+n]
		includes = includes || bytes.Contains(b, []byte(nsXInclude))
		if errors.Is(err, io.EOF) {
			return size, includes, nil
		}
		if err != nil {
			return size, includes, err
		}
		kept = copy(buf, b[max(0, len(b)-len(nsXInclude)):])
	}
}

// Accounts lists the accounts in an export, in one document.
func Accounts(ctx context.Context, src io.Reader) (names []string, err error) {
	l := &lister{Writer: Writer{w: bufio.NewWriter(io.Discard)}}
	err = (&Reader{}).Read(ctx, src, l)
	return l.names, err
}

// lister is a Sink that takes only names.
type lister struct {
	Writer
	names []string
	bytes int
}

// User implements Sink.
func (l *lister) User(u User) error {
	name := u.Name + "@" + u.Domain
	if j, err := xmpp.ParseJID(name); err == nil {
		name = j.String()
	}
	if l.bytes += len(name); len(l.names) >= maxAccounts || l.bytes > maxAccountBytes {
		return ErrTooMany
	}
	l.names = append(l.names, strings.Clone(name))
	return ErrSkip
}
