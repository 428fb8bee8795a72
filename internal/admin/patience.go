package admin

import (
	"context"
	"errors"
	"io"
	"time"
)

// between is the pause between two calls of a daemon that starts.
const between = 100 * time.Millisecond

func errStarting() *Error {
	return Errorf(CodeStarting, "the box is starting").Then("Try again in a moment.")
}

// patiently repeats a call that came while the daemon starts: it refuses
// everything then, and has done nothing.
func patiently[Resp any](ctx context.Context, c *Client, call func() (Resp, error)) (Resp, error) {
	until := time.Now().Add(c.patience)
	for {
		resp, err := call()
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeStarting || !time.Now().Before(until) {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return resp, ctx.Err()
		case <-time.After(between):
		}
	}
}

// maxReread is how much of an upload is kept to be sent once more. A daemon
// that starts answers before it reads more than its socket takes.
const maxReread = 1 << 20

// rereader can begin anew as long as little was read. It is used by one call
// at a time.
type rereader struct {
	r    io.Reader
	kept []byte
	at   int  // of kept: what was read again
	far  bool // more was read than is kept
}

// rewind begins anew, if that is possible.
func (r *rereader) rewind() bool {
	r.at = 0
	return !r.far
}

func (r *rereader) Read(p []byte) (int, error) {
	if r.at < len(r.kept) {
		n := copy(p, r.kept[r.at:])
		r.at += n
		return n, nil
	}
	n, err := r.r.Read(p)
	switch {
	case r.far:
	case len(r.kept)+n > maxReread:
		r.far, r.kept, r.at = true, nil, 0
	default:
		r.kept = append(r.kept, p[:n]...)
		r.at = len(r.kept)
	}
	return n, err
}
