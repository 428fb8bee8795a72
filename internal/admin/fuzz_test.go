package admin

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
)

// FuzzRequest gives the server any request line: no panic of its own, and
// what is no JSON with a known method reaches no method.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"method":"user.remove","params":{"user":"romeo"}}` + "\n"))
	f.Add([]byte(`{"method":"status"}` + "\n"))
	f.Add([]byte(`{"method":"user.list","params":[]}` + "\n"))
	s := NewServer(slog.New(slog.DiscardHandler), Methods(fakeBox{
		add:    func(context.Context, UserAddRequest) (UserAddResponse, error) { return UserAddResponse{}, nil },
		backup: func(context.Context, io.Writer) error { return nil },
	})...)
	f.Fuzz(func(t *testing.T, line []byte) {
		var req request
		if readLine(bufio.NewReader(bytes.NewReader(line)), maxRequest, &req) != nil {
			return
		}
		result, err := s.call(t.Context(), req, bytes.NewReader(nil), io.Discard)
		if _, known := s.methods[req.Method]; !known && err == nil {
			t.Errorf("%q answered %v", req.Method, result)
		}
	})
}

// FuzzResponse gives the client any answer: it ends, and a body counts as
// complete only with a result behind it.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03abc\x00\x00\x00\x00{\"result\":{}}\n"))
	f.Add([]byte("\x00\x00\x00\x00{\"error\":{\"code\":\"failed\"}}\n"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		in := bufio.NewReader(bytes.NewReader(answer))
		var resp response
		if copyBody(io.Discard, in) == nil && readLine(in, maxResponse, &resp) == nil && !bytes.HasSuffix(answer[:len(answer)-in.Buffered()], []byte("\n")) {
			t.Error("accepted an answer that was cut off")
		}
	})
}
