package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// importBox takes uploads as the test says.
type importBox struct {
	API
	take func(context.Context, io.Reader) (ImportResponse, error)
}

func (b importBox) Import(ctx context.Context, _ ImportRequest, r io.Reader) (ImportResponse, error) {
	return b.take(ctx, r)
}

func (b importBox) Export(_ context.Context, req ExportRequest, w io.Writer) (ExportResponse, error) {
	_, err := io.WriteString(w, "<server-data/>")
	return ExportResponse{Accounts: req.Users}, err
}

func TestExport(t *testing.T) {
	c, _, _ := start(t, importBox{})
	var b bytes.Buffer
	resp, err := c.Export(t.Context(), ExportRequest{Users: []string{"juliet"}}, &b)
	if err != nil || b.String() != "<server-data/>" || len(resp.Accounts) != 1 {
		t.Error(resp, err, b.String())
	}
}

func TestUpload(t *testing.T) {
	c, _, _ := start(t, importBox{take: func(_ context.Context, r io.Reader) (ImportResponse, error) {
		h := sha256.New()
		n, err := io.Copy(h, r)
		return ImportResponse{Accounts: []Imported{{From: hex.EncodeToString(h.Sum(nil)), Archived: int(n)}}}, err
	}})
	for _, size := range []int{0, 1, maxFrame - 1, maxFrame + 1, 3<<20 + 7} {
		data := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		sum := sha256.Sum256(data)
		resp, err := c.Import(t.Context(), ImportRequest{Size: int64(size)}, iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || resp.Accounts[0].From != hex.EncodeToString(sum[:]) || resp.Accounts[0].Archived != size {
			t.Errorf("%d bytes: %v, %+v", size, err, resp)
		}
	}
}

// A daemon may refuse before it has everything; the answer arrives nevertheless.
func TestUploadRefused(t *testing.T) {
	c, _, _ := start(t, importBox{take: func(_ context.Context, r io.Reader) (ImportResponse, error) {
		_, err := io.CopyN(io.Discard, r, 10)
		return ImportResponse{}, errors.Join(err, Errorf(CodeExists, "it is there"))
	}})
	_, err := c.Import(t.Context(), ImportRequest{}, endless{})
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeExists {
		t.Error(err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What breaks off never looks whole, whoever broke it off.
func TestUploadBroken(t *testing.T) {
	got := make(chan error, 1)
	c, _, _ := start(t, importBox{take: func(ctx context.Context, r io.Reader) (ImportResponse, error) {
		_, err := io.Copy(io.Discard, r)
		got <- err
		return ImportResponse{}, err
	}})
	bad := errors.New("the stick was pulled out")
	_, err := c.Import(t.Context(), ImportRequest{}, io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), iotest.ErrReader(bad)))
	if !errors.Is(err, bad) {
		t.Errorf("the caller is told %v", err)
	}
	if err := <-got; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the daemon is told %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = c.Import(ctx, ImportRequest{}, io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), readFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	})))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the caller is told %v", err)
	}
	if err := <-got; err == nil {
		t.Error("a cancelled upload looks whole")
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A caller that leaves after its upload cancels the call, as any other does.
func TestLeavingAfterUpload(t *testing.T) {
	whole, ended := make(chan struct{}), make(chan error, 1)
	c, _, _ := start(t, importBox{take: func(ctx context.Context, r io.Reader) (ImportResponse, error) {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return ImportResponse{}, err
		}
		close(whole)
		<-ctx.Done()
		ended <- ctx.Err()
		return ImportResponse{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-whole
		cancel()
	}()
	if _, err := c.Import(ctx, ImportRequest{}, bytes.NewReader([]byte("x"))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
