package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// Client calls the API of the daemon behind a socket.
type Client struct {
	path string
	// patience bounds how long a call waits for a daemon that starts.
	patience time.Duration
}

// NewClient returns a client of the daemon whose socket is at path. Each call
// makes a connection of its own, and waits up to 10 seconds for a daemon that
// starts.
func NewClient(path string) *Client { return &Client{path: path, patience: 10 * time.Second} }

// UserAdd implements API.
func (c *Client) UserAdd(ctx context.Context, req UserAddRequest) (UserAddResponse, error) {
	return Do[UserAddResponse](ctx, c, methodUserAdd, req, nil)
}

// UserList implements API.
func (c *Client) UserList(ctx context.Context, req UserListRequest) (UserListResponse, error) {
	return Do[UserListResponse](ctx, c, methodUserList, req, nil)
}

// UserGet implements API.
func (c *Client) UserGet(ctx context.Context, req UserGetRequest) (UserGetResponse, error) {
	return Do[UserGetResponse](ctx, c, methodUserGet, req, nil)
}

// UserPassword implements API.
func (c *Client) UserPassword(ctx context.Context, req UserPasswordRequest) (UserPasswordResponse, error) {
	return Do[UserPasswordResponse](ctx, c, methodUserPassword, req, nil)
}

// UserRemove implements API.
func (c *Client) UserRemove(ctx context.Context, req UserRemoveRequest) (UserRemoveResponse, error) {
	return Do[UserRemoveResponse](ctx, c, methodUserRemove, req, nil)
}

// UserPush implements API.
func (c *Client) UserPush(ctx context.Context, req UserPushRequest) (UserPushResponse, error) {
	return Do[UserPushResponse](ctx, c, methodUserPush, req, nil)
}

// MovePlan implements API.
func (c *Client) MovePlan(ctx context.Context, req MovePlanRequest) (MovePlanResponse, error) {
	return Do[MovePlanResponse](ctx, c, methodMovePlan, req, nil)
}

// MoveStart implements API.
func (c *Client) MoveStart(ctx context.Context, req MoveStartRequest) (MoveStartResponse, error) {
	return Do[MoveStartResponse](ctx, c, methodMoveStart, req, nil)
}

// MoveFamily implements API.
func (c *Client) MoveFamily(ctx context.Context, req MoveFamilyRequest) (MoveFamilyResponse, error) {
	return Do[MoveFamilyResponse](ctx, c, methodMoveFamily, req, nil)
}

// MoveStatus implements API.
func (c *Client) MoveStatus(ctx context.Context, req MoveStatusRequest) (MoveStatusResponse, error) {
	return Do[MoveStatusResponse](ctx, c, methodMoveStatus, req, nil)
}

// MoveCancel implements API.
func (c *Client) MoveCancel(ctx context.Context, req MoveCancelRequest) (MoveCancelResponse, error) {
	return Do[MoveCancelResponse](ctx, c, methodMoveCancel, req, nil)
}

// MoveUndo implements API.
func (c *Client) MoveUndo(ctx context.Context, req MoveUndoRequest) (MoveUndoResponse, error) {
	return Do[MoveUndoResponse](ctx, c, methodMoveUndo, req, nil)
}

// MoveClose implements API.
func (c *Client) MoveClose(ctx context.Context, req MoveCloseRequest) (MoveCloseResponse, error) {
	return Do[MoveCloseResponse](ctx, c, methodMoveClose, req, nil)
}

// MoveBring implements API.
func (c *Client) MoveBring(ctx context.Context, req MoveBringRequest) (MigrationResponse, error) {
	return Do[MigrationResponse](ctx, c, methodMoveBring, req, nil)
}

// MoveLeave implements API.
func (c *Client) MoveLeave(ctx context.Context, req MoveLeaveRequest) (MigrationResponse, error) {
	return Do[MigrationResponse](ctx, c, methodMoveLeave, req, nil)
}

// Migration implements API.
func (c *Client) Migration(ctx context.Context, req MigrationRequest) (MigrationResponse, error) {
	return Do[MigrationResponse](ctx, c, methodMigration, req, nil)
}

// MigrationStop implements API.
func (c *Client) MigrationStop(ctx context.Context, req MigrationRequest) (MigrationResponse, error) {
	return Do[MigrationResponse](ctx, c, methodMigrationStop, req, nil)
}

// Status implements API.
func (c *Client) Status(ctx context.Context, req StatusRequest) (StatusResponse, error) {
	return Do[StatusResponse](ctx, c, methodStatus, req, nil)
}

// Authority implements API.
func (c *Client) Authority(ctx context.Context, req AuthorityRequest) (AuthorityResponse, error) {
	return Do[AuthorityResponse](ctx, c, methodAuthority, req, nil)
}

// Export implements API. What was written to w is whole only when the error is
// nil.
func (c *Client) Export(ctx context.Context, req ExportRequest, w io.Writer) (ExportResponse, error) {
	return Do[ExportResponse](ctx, c, methodExport, req, w)
}

// Import implements API.
func (c *Client) Import(ctx context.Context, req ImportRequest, r io.Reader) (ImportResponse, error) {
	return Send[ImportResponse](ctx, c, methodImport, req, r)
}

// Do calls a method and copies the body that it hands over, if any, to body.
// An error of the daemon comes back as the *Error it was.
func Do[Resp any](ctx context.Context, c *Client, method string, params any, body io.Writer) (Resp, error) {
	return patiently(ctx, c, func() (Resp, error) { return do[Resp](ctx, c, method, params, nil, body) })
}

// Send calls a method and hands over what r reads. An error of r breaks the
// upload off and is returned.
func Send[Resp any](ctx context.Context, c *Client, method string, params any, r io.Reader) (Resp, error) {
	again := &rereader{r: r}
	return patiently(ctx, c, func() (Resp, error) {
		if !again.rewind() {
			var none Resp
			return none, errStarting()
		}
		return do[Resp](ctx, c, method, params, again, nil)
	})
}

func do[Resp any](ctx context.Context, c *Client, method string, params any, up io.Reader, body io.Writer) (Resp, error) {
	var result Resp
	if body == nil {
		body = io.Discard
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return result, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	resp, err := exchange(conn, method, params, up, body)
	switch {
	case ctx.Err() != nil:
		return result, ctx.Err()
	case err != nil:
		return result, err
	case resp.Error != nil:
		return result, resp.Error
	}
	if err := json.Unmarshal(resp.Result, &result); err != nil {
		return result, broken(err)
	}
	return result, nil
}

func exchange(conn net.Conn, method string, params any, up io.Reader, body io.Writer) (response, error) {
	var resp response
	data, err := json.Marshal(params)
	if err != nil {
		return resp, err
	}
	if len(data) > maxRequest-1024 {
		return resp, Errorf(CodeInvalid, "the request is too long")
	}
	// A daemon that refuses this user answers and closes without reading: then
	// the write fails, and the answer is there all the same.
	writeErr := writeLine(conn, request{Method: method, Params: data, Upload: up != nil})
	if up != nil {
		sent := make(chan error, 1)
		go func() { sent <- send(conn, up) }()
		resp, err := answered(conn, body, writeErr)
		_ = conn.Close() // a server that has answered takes no more
		var source *sourceError
		if sendErr := <-sent; errors.As(sendErr, &source) {
			return resp, source.error
		}
		return resp, err
	}
	return answered(conn, body, writeErr)
}

// sourceError is one of what is read for an upload.
type sourceError struct{ error }

// send uploads. Where the source fails, the connection is closed: the upload
// must not look whole.
func send(conn net.Conn, up io.Reader) error {
	w := frameWriter{conn}
	buf := make([]byte, maxFrame/4)
	for idle := 0; ; idle++ {
		n, err := up.Read(buf)
		if n == 0 && err == nil && idle > 100 {
			err = io.ErrNoProgress
		}
		if n > 0 {
			idle = 0
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.end()
		case err != nil:
			_ = conn.Close()
			return &sourceError{err}
		}
	}
}

func answered(conn net.Conn, body io.Writer, writeErr error) (response, error) {
	var resp response
	in := bufio.NewReader(conn)
	out := &bodyWriter{w: body}
	if err := copyBody(out, in); err != nil {
		if out.err != nil {
			return resp, out.err
		}
		return resp, broken(errors.Join(writeErr, err))
	}
	if err := readLine(in, maxResponse, &resp); err != nil {
		return resp, broken(err)
	}
	return resp, nil
}

// bodyWriter keeps an error of the caller's own writer apart from one of the
// connection.
type bodyWriter struct {
	w   io.Writer
	err error
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	b.err = err
	return n, err
}

func broken(err error) *Error {
	return Errorf(CodeBroken, "the daemon ended the connection before its answer: %v", err).
		Then("See its log and 'pibox status', then look whether it was done before trying again.")
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, Errorf(CodeNotRunning, "pibox is not running here: nobody listens on %s", c.path).
			Then("Start it with 'systemctl start pibox' or 'pibox serve'. If it runs: use the command as the user who started it, or name its configuration, folder or socket with --config, --data-dir or --socket.")
	case errors.Is(err, fs.ErrPermission):
		return nil, Errorf(CodeForbidden, "this user may not use %s", c.path).Then("%s", c.howToGetIn())
	}
	return nil, fmt.Errorf("admin socket %s: %w", c.path, err)
}

func (c *Client) howToGetIn() string {
	const asRoot = "Run the command as root, for example with sudo"
	info, err := os.Stat(c.path)
	if err != nil {
		return asRoot + "."
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Gid == 0 {
		return asRoot + "."
	}
	group := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return asRoot + ", or join the group: 'usermod -aG " + group + " USER', then log in again."
}
