package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pibox/internal/admin"
)

const (
	// pattern of the names under which an update is found in a folder.
	pattern    = "pibox-*.update"
	maxRequest = 16 << 10 // bytes
)

// Find looks for an update that fits in the folders: the newest. The error is CodeNotFound where there is none.
func (p Place) Find(ctx context.Context) (string, error) {
	best, release := "", int64(0)
	err := error(admin.Errorf(admin.CodeNotFound, "there is no update in %s", strings.Join(p.Folders, " or ")).
		Then("Copy a file named %s there.", pattern))
	for _, dir := range p.Folders {
		names, _ := filepath.Glob(filepath.Join(dir, pattern)) // a name that can be none
		slices.Sort(names)
		for _, name := range names {
			m, unfit := p.Check(ctx, name)
			switch {
			case unfit == nil && m.Release > release:
				best, release = name, m.Release
			case unfit != nil && best == "":
				err = unfit
			}
		}
	}
	if best != "" {
		return best, nil
	}
	return "", err
}

// Ask leaves a request for Requested, which root's unit calls when the file appears.
func (p Place) Ask(r Request) error {
	if err := p.mayAsk(r.From); err != nil {
		return err
	}
	err := writeRun(p.Request, r, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return errNotImage
	}
	return err
}

// Requested takes the request that the daemon left; false: there is none. Whoever may write it is trusted with no more than naming a URL
// or a file in one of the folders.
func (p Place) Requested() (r Request, there bool, err error) {
	// The folder belongs to the daemon's user: what is there may be anything.
	f, err := os.OpenFile(p.Request, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		defer func() { _ = f.Close() }()
	}
	if removed := os.Remove(p.Request); err == nil {
		err = removed // else it would be asked for again and again
	}
	if err != nil {
		return r, false, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return r, false, errors.Join(err, errRequest)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxRequest+1))
	if err != nil || len(raw) > maxRequest {
		return r, false, errors.Join(err, errRequest)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, false, errRequest
	}
	r = Request{From: r.From} // an older version is root's alone to choose
	err = p.mayAsk(r.From)
	return r, err == nil, err
}

// mayAsk tells whether root reads an update from there when the daemon asks.
func (p Place) mayAsk(from string) error {
	if isURL(from) || slices.Contains(p.Folders, filepath.Dir(filepath.Clean(from))) {
		return nil
	}
	return admin.Errorf(admin.CodeInvalid, "the box takes updates from %s or from a URL, not from %q", strings.Join(p.Folders, ", "), from).
		Then("Copy the file there, or install it as root.")
}

var errRequest = errors.New("the request for an update can not be read")
