package box

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pibox/internal/admin"
	"pibox/internal/portable"
)

// ExportFile is an export (XEP-0227) on the disk of who imports it: one file or, where that includes others, all of them as one document. The daemon is
// given the bytes: it may not be allowed to read what its caller may.
type ExportFile struct {
	Path string
	Size int64 // of the document, in bytes

	includes bool
	folder   *portable.Folder
	main     *os.File
}

// OpenExport looks at a file: whether it includes others, and whether these may be read. Errors: *admin.Error, and those of the file system.
func OpenExport(ctx context.Context, path string) (*ExportFile, error) {
	x := &ExportFile{Path: path}
	if err := x.open(); err != nil {
		return nil, explainFile(err, path)
	}
	defer x.Close()
	var err error
	if x.Size, x.includes, err = portable.Includes(x.main); err != nil || !x.includes {
		return x, explainFile(err, path)
	}
	x.Size, err = io.Copy(io.Discard, x.Reader(ctx))
	return x, explainFile(err, path)
}

func (x *ExportFile) open() (err error) {
	x.Close()
	x.folder, x.main, err = portable.OpenFolder(x.Path)
	return err
}

// Close closes the files.
func (x *ExportFile) Close() {
	if x.main != nil {
		_ = x.folder.Close()
		_ = x.main.Close()
		x.folder, x.main = nil, nil
	}
}

// Reader reads the document from its beginning; what was given before reads no more.
func (x *ExportFile) Reader(ctx context.Context) io.Reader {
	if err := x.open(); err != nil {
		return failing{explainFile(err, x.Path)}
	}
	if !x.includes {
		return x.main
	}
	r, w := io.Pipe()
	main, folder := x.main, x.folder
	go func() {
		_ = w.CloseWithError(explainFile(portable.Flatten(ctx, main, filepath.Base(x.Path), folder.Open, w), x.Path))
	}()
	return r
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

// Accounts lists the accounts in it, by their addresses there.
func (x *ExportFile) Accounts(ctx context.Context) ([]string, error) {
	defer x.Close()
	names, err := portable.Accounts(ctx, x.Reader(ctx))
	return names, explainFile(err, x.Path)
}

// SplitExport writes a document as files that include each other (XEP-0227 §5.1).
func SplitExport(ctx context.Context, src io.Reader, mainFile string, create func(name string) (io.WriteCloser, error)) error {
	return portable.Split(ctx, src, mainFile, create)
}

// explainFile turns an error of a file into one for the person.
func explainFile(err error, path string) error {
	var format *portable.FormatError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &format):
		return admin.Errorf(admin.CodeInvalid, "the file can not be read: %v", format).Then("Nothing was imported.")
	case errors.Is(err, portable.ErrTooMany):
		return admin.Errorf(admin.CodeInvalid, "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		return admin.Errorf(admin.CodeNotFound, "there is no file %s", path)
	}
	return err
}
