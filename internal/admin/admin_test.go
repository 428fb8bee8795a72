package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeBox is an API that answers with what the test put into it.
type fakeBox struct {
	API
	add    func(context.Context, UserAddRequest) (UserAddResponse, error)
	backup func(context.Context, io.Writer) error
}

func (b fakeBox) UserAdd(ctx context.Context, req UserAddRequest) (UserAddResponse, error) {
	return b.add(ctx, req)
}

func (b fakeBox) UserGet(_ context.Context, req UserGetRequest) (UserGetResponse, error) {
	return UserGetResponse{User{Address: req.User}}, nil
}

func (b fakeBox) UserList(_ context.Context, req UserListRequest) (UserListResponse, error) {
	return UserListResponse{Users: []User{{Address: "romeo@" + req.Domain, State: UserActive, Created: time.Unix(1, 0).UTC()}}}, nil
}

func (b fakeBox) UserPassword(_ context.Context, req UserPasswordRequest) (UserPasswordResponse, error) {
	return UserPasswordResponse{Address: req.User + req.Password, Ended: 2}, nil
}

func (b fakeBox) UserRemove(_ context.Context, req UserRemoveRequest) (UserRemoveResponse, error) {
	return UserRemoveResponse{Address: req.User, Ended: 3}, nil
}

func (b fakeBox) UserPush(_ context.Context, req UserPushRequest) (UserPushResponse, error) {
	return UserPushResponse{Address: req.User, Sender: req.Sender == PushYes, Services: []PushService{{Service: "push.example", Device: "phone"}}}, nil
}

func (b fakeBox) Status(context.Context, StatusRequest) (StatusResponse, error) {
	return StatusResponse{State: "well", PID: 7}, nil
}

func (b fakeBox) Backup(ctx context.Context, _ BackupRequest, w io.Writer) (BackupResponse, error) {
	return BackupResponse{Schema: 1}, b.backup(ctx, w)
}

// lockedBuffer is a log that a test may read while the server writes it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves api on a socket until the test ends.
func start(t *testing.T, api API, change ...func(*Server)) (*Client, string, *lockedBuffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	s := NewServer(slog.New(slog.NewTextHandler(log, nil)), Methods(api)...)
	for _, c := range change {
		c(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there after the end")
		}
	})
	return NewClient(path), path, log
}

func TestCalls(t *testing.T) {
	c, _, log := start(t, fakeBox{add: func(_ context.Context, req UserAddRequest) (UserAddResponse, error) {
		return UserAddResponse{User{Address: req.User + "@a.example", State: UserActive}}, nil
	}})
	var got [6]any
	var errs [6]error
	got[0], errs[0] = c.UserAdd(t.Context(), UserAddRequest{User: "juliet", Password: "secret-word"})
	got[1], errs[1] = c.UserList(t.Context(), UserListRequest{Domain: "a.example"})
	got[2], errs[2] = c.UserPassword(t.Context(), UserPasswordRequest{User: "juliet", Password: "x"})
	got[3], errs[3] = c.UserRemove(t.Context(), UserRemoveRequest{User: "juliet"})
	got[4], errs[4] = c.Status(t.Context(), StatusRequest{})
	got[5], errs[5] = c.UserPush(t.Context(), UserPushRequest{User: "juliet", Sender: PushYes})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	want := [6]any{
		UserAddResponse{User{Address: "juliet@a.example", State: UserActive}},
		UserListResponse{Users: []User{{Address: "romeo@a.example", State: UserActive, Created: time.Unix(1, 0).UTC()}}},
		UserPasswordResponse{Address: "julietx", Ended: 2},
		UserRemoveResponse{Address: "juliet", Ended: 3},
		StatusResponse{State: "well", PID: 7},
		UserPushResponse{Address: "juliet", Sender: true, Services: []PushService{{Service: "push.example", Device: "phone"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(log.String(), "secret-word") {
		t.Error("a password in the log")
	}
}

func TestErrors(t *testing.T) {
	answer := errors.New("unset")
	c, _, log := start(t, fakeBox{add: func(_ context.Context, req UserAddRequest) (UserAddResponse, error) {
		if req.User == "panic" {
			panic("at the disco")
		}
		return UserAddResponse{}, answer
	}})
	answer = Errorf(CodeExists, "juliet is there already").Then("Use 'pibox user passwd'.")
	_, err := c.UserAdd(t.Context(), UserAddRequest{})
	if diff := cmp.Diff(error(&Error{Code: CodeExists, Message: "juliet is there already", Next: "Use 'pibox user passwd'."}), err); diff != "" {
		t.Error(diff)
	}
	answer = errors.New("page 17 is torn")
	_, err = c.UserAdd(t.Context(), UserAddRequest{})
	wantError(t, err, CodeInternal, "internal error")
	if !strings.Contains(log.String(), "page 17 is torn") {
		t.Errorf("not in the log: %s", log)
	}
	_, err = c.UserAdd(t.Context(), UserAddRequest{User: "panic"})
	wantError(t, err, CodeInternal, "internal error")
	if !strings.Contains(log.String(), "at the disco") {
		t.Errorf("not in the log: %s", log)
	}
	_, err = Do[struct{}](t.Context(), c, "user.promote", struct{}{}, nil)
	wantError(t, err, CodeUnknown, `the running daemon knows no "user.promote"`)
	_, err = Do[struct{}](t.Context(), c, methodUserRemove, map[string]any{"user": "x", "keep_archive": true}, nil)
	wantError(t, err, CodeInvalid, `the request can not be read: json: unknown field "keep_archive"`)
	_, err = c.UserAdd(t.Context(), UserAddRequest{User: strings.Repeat("x", maxRequest)})
	wantError(t, err, CodeInvalid, "the request is too long")
}

func wantError(t *testing.T, err error, code Code, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, text) {
		t.Errorf("got %#v, want %s: %s", err, code, text)
	}
}

func TestBackup(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	c, _, _ := start(t, fakeBox{backup: func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	}})
	var got bytes.Buffer
	resp, err := c.Backup(t.Context(), BackupRequest{}, &got)
	if err != nil || resp.Schema != 1 || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got %d bytes, %+v, %v", got.Len(), resp, err)
	}
	full := errors.New("disk full")
	if _, err = c.Backup(t.Context(), BackupRequest{}, failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestBackupFailsHalfway(t *testing.T) {
	c, _, _ := start(t, fakeBox{backup: func(_ context.Context, w io.Writer) error {
		_, err := w.Write([]byte("the first half"))
		return errors.Join(err, Errorf(CodeFailed, "the card can not be read"))
	}})
	var got bytes.Buffer
	_, err := c.Backup(t.Context(), BackupRequest{}, &got)
	wantError(t, err, CodeFailed, "the card can not be read")
	if got.String() != "the first half" {
		t.Errorf("got %q", got.String())
	}
}

// TestCallerLeaves proves that work for nobody is cancelled.
func TestCallerLeaves(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	c, _, _ := start(t, fakeBox{add: func(ctx context.Context, _ UserAddRequest) (UserAddResponse, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return UserAddResponse{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := c.UserAdd(ctx, UserAddRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-ended
}

// TestStopWithSlowCaller proves that a caller who takes nothing does not keep
// the daemon from stopping.
func TestStopWithSlowCaller(t *testing.T) {
	var conn net.Conn
	t.Cleanup(func() { _ = conn.Close() }) // after the server's own end, which must not wait for it
	_, path, _ := start(t, fakeBox{backup: func(_ context.Context, w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, maxFrame)); err != nil {
				return err
			}
		}
	}}, func(s *Server) { s.stopTimeout = time.Millisecond })
	var err error
	if conn, err = net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
	if err := writeLine(conn, request{Method: methodBackup}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, conn, maxFrame+4); err != nil {
		t.Fatal(err)
	}
}

func TestBadRequests(t *testing.T) {
	_, path, log := start(t, fakeBox{})
	for name, tt := range map[string]struct{ send, want string }{
		"garbage":  {"GET / HTTP/1.1\r\n", `"code":"invalid"`},
		"too long": {strings.Repeat("x", maxRequest+4096) + "\n", "the line is too long"},
		"half":     {`{"method":`, "unexpected EOF"},
	} {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(tt.send)); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if !strings.Contains(string(got), tt.want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		_ = conn.Close()
	}
	if !strings.Contains(log.String(), "bad request") {
		t.Error("not in the log")
	}
}

func TestRefusedPeer(t *testing.T) {
	c, _, log := start(t, fakeBox{}, func(s *Server) {
		s.allowed = func(p peer, _ uint32) bool { return p.uid != uint32(os.Geteuid()) || p.pid != os.Getpid() }
	})
	_, err := c.Status(t.Context(), StatusRequest{})
	wantError(t, err, CodeForbidden, "may not administer this box")
	if !strings.Contains(log.String(), "refused") {
		t.Error("not in the log")
	}
}

func TestPeerAllowed(t *testing.T) {
	me := uint32(os.Geteuid())
	for _, tt := range []struct {
		peer peer
		want bool
	}{
		{peer{uid: 0, groups: []uint32{5}}, true},
		{peer{uid: me, groups: []uint32{5}}, true},
		{peer{uid: me + 1, groups: []uint32{5, 42}}, true},
		{peer{uid: me + 1, groups: []uint32{5, 43}}, false},
		{peer{uid: me + 1}, false},
	} {
		if got := tt.peer.allowed(42); got != tt.want {
			t.Errorf("%+v: got %v", tt.peer, got)
		}
	}
}

// TestPeerOf compares what the kernel says of this process with what it says
// of itself.
func TestPeerOf(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fds[1]) }()
	f := os.NewFile(uintptr(fds[0]), "pair")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := peerOf(conn.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	if got.pid != os.Getpid() || got.uid != uint32(os.Geteuid()) || got.groups[0] != uint32(os.Getegid()) {
		t.Errorf("got %+v", got)
	}
}

func TestNewPassword(t *testing.T) {
	a, b := NewPassword(), NewPassword()
	if len(a) != 19 || a == b || strings.Trim(a, passwordAlphabet+"-") != "" {
		t.Errorf("got %q and %q", a, b)
	}
	if len(passwordAlphabet) != 32 {
		t.Error("the alphabet's length must divide 256, or some signs are more frequent")
	}
}
