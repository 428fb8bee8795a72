package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
)

// Names of the methods on the socket.
const (
	methodUserAdd      = "user.add"
	methodUserList     = "user.list"
	methodUserGet      = "user.get"
	methodUserPassword = "user.password"
	methodUserRemove   = "user.remove"
	methodUserPush     = "user.push"
	methodStatus       = "status"
	methodAuthority    = "authority"
	methodBackup       = "backup"

	methodRestoreConfirm   = "restore.confirm"
	methodTransferOffer    = "transfer.offer"
	methodTransferWithdraw = "transfer.withdraw"
	methodTransferReopen   = "transfer.reopen"
)

// Method is one row of the server's table.
type Method struct {
	Name string
	call func(ctx context.Context, params json.RawMessage, body io.Writer) (any, error)
}

// Methods returns the table that offers api on the socket. A feature with
// methods of its own appends them.
func Methods(api API) []Method {
	return []Method{
		Call(methodUserAdd, api.UserAdd),
		Call(methodUserList, api.UserList),
		Call(methodUserGet, api.UserGet),
		Call(methodUserPassword, api.UserPassword),
		Call(methodUserRemove, api.UserRemove),
		Call(methodUserPush, api.UserPush),
		Call(methodStatus, api.Status),
		Call(methodAuthority, api.Authority),
		Stream(methodBackup, api.Backup),
		Call(methodRestoreConfirm, api.RestoreConfirm),
		Call(methodTransferOffer, api.TransferOffer),
		Call(methodTransferWithdraw, api.TransferWithdraw),
		Call(methodTransferReopen, api.TransferReopen),
	}
}

// Call makes a method of a function.
func Call[Req, Resp any](name string, f func(context.Context, Req) (Resp, error)) Method {
	return Stream(name, func(ctx context.Context, req Req, _ io.Writer) (Resp, error) { return f(ctx, req) })
}

// Stream makes a method of a function that hands bytes to the caller before
// it answers. The caller is told whether they are complete.
func Stream[Req, Resp any](name string, f func(context.Context, Req, io.Writer) (Resp, error)) Method {
	return Method{name, func(ctx context.Context, params json.RawMessage, body io.Writer) (any, error) {
		var req Req
		if err := decodeStrictly(params, &req); err != nil {
			return nil, Errorf(CodeInvalid, "the request can not be read: %v", err).
				Then("The command and the daemon may be of different versions: restart the daemon.")
		}
		return f(ctx, req, body)
	}}
}

// decodeStrictly refuses fields that this version does not know: doing what
// was asked without them would be doing something else.
func decodeStrictly(data json.RawMessage, v any) error {
	if len(data) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
