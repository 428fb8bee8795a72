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
)

// Client calls the API of the daemon behind a socket.
type Client struct{ path string }

// NewClient returns a client of the daemon whose socket is at path. Each call
// makes a connection of its own.
func NewClient(path string) *Client { return &Client{path: path} }

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

// Status implements API.
func (c *Client) Status(ctx context.Context, req StatusRequest) (StatusResponse, error) {
	return Do[StatusResponse](ctx, c, methodStatus, req, nil)
}

// Authority implements API.
func (c *Client) Authority(ctx context.Context, req AuthorityRequest) (AuthorityResponse, error) {
	return Do[AuthorityResponse](ctx, c, methodAuthority, req, nil)
}

// Do calls a method and copies the body that it hands over, if any, to body.
// An error of the daemon comes back as the *Error it was.
func Do[Resp any](ctx context.Context, c *Client, method string, params any, body io.Writer) (Resp, error) {
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
	resp, err := exchange(conn, method, params, body)
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

func exchange(conn net.Conn, method string, params any, body io.Writer) (response, error) {
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
	writeErr := writeLine(conn, request{Method: method, Params: data})
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
