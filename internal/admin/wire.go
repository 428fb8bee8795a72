package admin

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The conversation, one per connection:
//
//	client  {"method":"user.add","params":{…}}\n
//	client  where the request says "upload":true: frames, as the server's
//	server  frames of the body: 4 bytes of length (big-endian), that many bytes;
//	        a length of 0 ends the body, also where there is none
//	server  {"result":{…}}\n or {"error":{…}}\n
//
// The end of the body alone does not make it complete: the result does. An
// upload is complete with its end. The server may answer before that; then it
// takes no more.

const (
	// maxRequest bounds the line of a request, in bytes.
	maxRequest = 64 << 10
	// maxResponse bounds the line of a response, in bytes.
	maxResponse = 16 << 20
	// maxFrame bounds one frame of a body, in bytes.
	maxFrame = 256 << 10
)

type request struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
	Upload bool            `json:"upload,omitempty"`
}

type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

var errTooLong = errors.New("the line is too long")

// readLine reads one line of at most limit bytes into v.
func readLine(r *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return errTooLong
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		return json.Unmarshal(line, v)
	}
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// frameWriter writes a body.
type frameWriter struct{ w io.Writer }

func (f frameWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		chunk := p[done:min(len(p), done+maxFrame)]
		frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(chunk)), uint32(len(chunk)))
		if _, err := f.w.Write(append(frame, chunk...)); err != nil {
			return done, err
		}
		done += len(chunk)
	}
	return done, nil
}

func (f frameWriter) end() error {
	_, err := f.w.Write(make([]byte, 4))
	return err
}

// copyBody copies the frames of a body to w.
func copyBody(w io.Writer, r io.Reader) error {
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 {
			return nil
		}
		if n > maxFrame {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		if _, err := io.CopyN(w, r, int64(n)); err != nil {
			return err
		}
	}
}

// frameReader reads an upload. A connection that ends within it is an
// io.ErrUnexpectedEOF.
type frameReader struct {
	r    io.Reader
	left uint32 // of the frame
	err  error
}

func (f *frameReader) Read(p []byte) (n int, err error) {
	if f.left == 0 && f.err == nil {
		f.err = f.head()
	}
	if f.err != nil || len(p) == 0 {
		return 0, f.err
	}
	n, err = f.r.Read(p[:min(len(p), int(f.left))])
	f.left -= uint32(n)
	if err != nil {
		f.err = unexpected(err)
	}
	return n, f.err
}

func (f *frameReader) head() error {
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return unexpected(err)
	}
	switch f.left = binary.BigEndian.Uint32(head[:]); {
	case f.left == 0:
		return io.EOF
	case f.left > maxFrame:
		return fmt.Errorf("a frame of %d bytes", f.left)
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
