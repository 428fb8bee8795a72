package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// requestTimeout is the time for a caller to send its request.
	requestTimeout = 10 * time.Second
	// readTimeout is the time for a caller to send a part of an upload.
	readTimeout = 60 * time.Second
	// writeTimeout is the time for a caller to take a part of the answer.
	writeTimeout = 60 * time.Second
	// stopTimeout is the time for all callers together once the daemon stops.
	stopTimeout = time.Second
	// maxCalls bounds the calls at the same time.
	maxCalls = 32
	// acceptPause is the wait after a failed accept, such as with no file
	// descriptor left.
	acceptPause = 100 * time.Millisecond
)

// Server answers calls on the admin socket.
type Server struct {
	methods map[string]Method
	log     *slog.Logger
	allowed func(p peer, gid uint32) bool
	// stopTimeout is the constant, except in tests.
	stopTimeout time.Duration
}

// NewServer returns a server for the methods of a table. Two of one name are
// a programming error and panic.
func NewServer(log *slog.Logger, methods ...Method) *Server {
	s := &Server{methods: make(map[string]Method, len(methods)), log: log, allowed: peer.allowed, stopTimeout: stopTimeout}
	for _, m := range methods {
		if _, ok := s.methods[m.Name]; ok {
			panic("admin: method " + m.Name + " is registered twice")
		}
		s.methods[m.Name] = m
	}
	return s
}

// Serve answers calls until ctx ends; then it closes l, cancels the calls in
// progress and waits for them. It returns nil after that, else the error that
// ended it.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxCalls)
	for id := 1; ; id++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			s.log.Error("admin socket: accept", "error", err)
			<-slots
			pause(ctx, acceptPause)
			continue
		}
		calls.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, conn, l.gid, fmt.Sprintf("admin-%d", id))
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serve handles one connection: one call.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn, gid uint32, id string) {
	defer func() { _ = conn.Close() }()
	log := s.log.With("conn", id)
	out := &deadlineWriter{conn: conn}
	stop := context.AfterFunc(ctx, func() { out.hurry(s.stopTimeout) })
	defer stop()
	who, err := peerOf(conn)
	if err != nil {
		log.Error("admin socket: peer credentials", "error", err)
		return
	}
	log = log.With("uid", who.uid, "pid", who.pid)
	if !s.allowed(who, gid) {
		log.Warn("admin socket: refused")
		s.answer(log, out, nil, Errorf(CodeForbidden, "user %d may not administer this box", who.uid).
			Then("Run the command as root, or as a member of group %d.", gid))
		return
	}
	in := bufio.NewReader(conn)
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	var req request
	if err := readLine(in, maxRequest, &req); err != nil {
		if !errors.Is(err, io.EOF) { // a mere probe for a running daemon
			log.Warn("admin socket: bad request", "error", err)
			s.answer(log, out, nil, Errorf(CodeInvalid, "the request can not be read: %v", err))
		}
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leaving := func() { // a caller sends nothing more: what ends this read is its leaving
		_ = conn.SetReadDeadline(time.Time{})
		go func() {
			_, _ = in.ReadByte()
			cancel()
		}()
	}
	up := &upload{frameReader: frameReader{r: in}, ctx: ctx, conn: conn, ended: leaving}
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	if !req.Upload {
		up.err = io.EOF
		leaving()
	}
	started := time.Now()
	result, err := s.call(ctx, req, up, frameWriter{out})
	s.answer(log, out, result, err)
	log.Info("admin socket: call", "method", req.Method, "took", time.Since(started), "ok", err == nil)
}

// call finds and runs the method. A panic in it is an internal error: a fault
// in one call must not end the box.
func (s *Server) call(ctx context.Context, req request, up io.Reader, body io.Writer) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	m, ok := s.methods[req.Method]
	if !ok {
		return nil, Errorf(CodeUnknown, "the running daemon knows no %q", req.Method).
			Then("It may be of another version than this command: restart it.")
	}
	if m.upload != req.Upload {
		return nil, Errorf(CodeInvalid, "%q and a body do not fit together", req.Method).
			Then("The command and the daemon may be of different versions: restart the daemon.")
	}
	return m.call(ctx, req.Params, up, body)
}

// upload is what a caller hands over. Each part of it has readTimeout.
type upload struct {
	frameReader
	ctx   context.Context
	conn  *net.UnixConn
	ended func() // called once the upload came whole
}

func (u *upload) Read(p []byte) (n int, err error) {
	if u.err != nil {
		return 0, u.err
	}
	_ = u.conn.SetReadDeadline(time.Now().Add(readTimeout))
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	if n, err = u.frameReader.Read(p); errors.Is(err, io.EOF) {
		u.ended()
	}
	return n, err
}

func (s *Server) answer(log *slog.Logger, out io.Writer, result any, err error) {
	resp := response{}
	if err == nil {
		resp.Result, err = json.Marshal(result)
	}
	if err != nil {
		if !errors.As(err, &resp.Error) {
			log.Error("admin socket: internal error", "error", err)
			resp.Error = Errorf(CodeInternal, "internal error").Then("The log of the daemon says more.")
		}
		resp.Result = nil
	}
	err = frameWriter{out}.end()
	if err == nil {
		err = writeLine(out, resp)
	}
	if err != nil {
		log.Info("admin socket: the caller left", "error", err)
	}
}

// deadlineWriter gives each write writeTimeout, and all writes after hurry
// that time together, so that a slow caller does not hold up a stop.
type deadlineWriter struct {
	conn *net.UnixConn

	mu      sync.Mutex
	hurried bool
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	if !w.hurried {
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	w.mu.Unlock()
	return w.conn.Write(p)
}

func (w *deadlineWriter) hurry(within time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hurried = true
	_ = w.conn.SetWriteDeadline(time.Now().Add(within))
}
