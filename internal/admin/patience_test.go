package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// A call in the first moments of a daemon waits for it; an upload comes whole all the same.
func TestPatience(t *testing.T) {
	starting := Errorf(CodeStarting, "the box is starting")
	var calls atomic.Int32
	data := bytes.Repeat([]byte("0123456"), 500_000)
	c, _, _ := start(t, importBox{take: func(_ context.Context, r io.Reader) (ImportResponse, error) {
		if calls.Add(1) < 3 {
			return ImportResponse{}, starting
		}
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, data) {
			err = errors.New("something else came")
		}
		return ImportResponse{}, err
	}})
	if _, err := c.Import(t.Context(), ImportRequest{}, bytes.NewReader(data)); err != nil || calls.Load() != 3 {
		t.Error(err, calls.Load())
	}

	calls.Store(0)
	c, _, _ = start(t, fakeBox{add: func(context.Context, UserAddRequest) (UserAddResponse, error) {
		if calls.Add(1) < 3 {
			return UserAddResponse{}, starting
		}
		return UserAddResponse{}, Errorf(CodeBusy, "another one")
	}})
	var e *Error
	if _, err := c.UserAdd(t.Context(), UserAddRequest{}); !errors.As(err, &e) || e.Code != CodeBusy || calls.Load() != 3 {
		t.Error(err, calls.Load())
	}
	// not for ever
	calls.Store(-1000)
	c.patience = 2 * between
	if _, err := c.UserAdd(t.Context(), UserAddRequest{}); !errors.As(err, &e) || e.Code != CodeStarting {
		t.Error(err)
	}
	// nor longer than the caller waits
	c.patience = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), between/2)
	defer cancel()
	if _, err := c.UserAdd(ctx, UserAddRequest{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
