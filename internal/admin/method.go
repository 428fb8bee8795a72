package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
)

// Names of the methods on the socket.
const (
	methodUserAdd       = "user.add"
	methodUserList      = "user.list"
	methodUserGet       = "user.get"
	methodUserPassword  = "user.password"
	methodUserRemove    = "user.remove"
	methodUserPush      = "user.push"
	methodMovePlan      = "move.plan"
	methodMoveStart     = "move.start"
	methodMoveFamily    = "move.family"
	methodMoveStatus    = "move.status"
	methodMoveCancel    = "move.cancel"
	methodMoveUndo      = "move.undo"
	methodMoveClose     = "move.close"
	methodMoveBring     = "move.bring"
	methodMoveLeave     = "move.leave"
	methodMigration     = "migration"
	methodMigrationStop = "migration.stop"
	methodStatus        = "status"
	methodAuthority     = "authority"
	methodBackup        = "backup"
	methodExport        = "export"
	methodImport        = "import"

	methodRestoreConfirm   = "restore.confirm"
	methodTransferOffer    = "transfer.offer"
	methodTransferWithdraw = "transfer.withdraw"
	methodTransferReopen   = "transfer.reopen"

	methodUpdateCheck  = "update.check"
	methodUpdateStart  = "update.start"
	methodUpdateStatus = "update.status"
)

// Method is one row of the server's table.
type Method struct {
	Name string
	call func(ctx context.Context, params json.RawMessage, up io.Reader, body io.Writer) (any, error)
	// upload tells that the caller hands over bytes.
	upload bool
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
		Call(methodMovePlan, api.MovePlan),
		Call(methodMoveStart, api.MoveStart),
		Call(methodMoveFamily, api.MoveFamily),
		Call(methodMoveStatus, api.MoveStatus),
		Call(methodMoveCancel, api.MoveCancel),
		Call(methodMoveUndo, api.MoveUndo),
		Call(methodMoveClose, api.MoveClose),
		Call(methodMoveBring, api.MoveBring),
		Call(methodMoveLeave, api.MoveLeave),
		Call(methodMigration, api.Migration),
		Call(methodMigrationStop, api.MigrationStop),
		Call(methodStatus, api.Status),
		Call(methodAuthority, api.Authority),
		Stream(methodBackup, api.Backup),
		Stream(methodExport, api.Export),
		Upload(methodImport, api.Import),
		Call(methodRestoreConfirm, api.RestoreConfirm),
		Call(methodTransferOffer, api.TransferOffer),
		Call(methodTransferWithdraw, api.TransferWithdraw),
		Call(methodTransferReopen, api.TransferReopen),
		Call(methodUpdateCheck, api.UpdateCheck),
		Call(methodUpdateStart, api.UpdateStart),
		Call(methodUpdateStatus, api.UpdateStatus),
	}
}

// Call makes a method of a function.
func Call[Req, Resp any](name string, f func(context.Context, Req) (Resp, error)) Method {
	return Stream(name, func(ctx context.Context, req Req, _ io.Writer) (Resp, error) { return f(ctx, req) })
}

// Stream makes a method of a function that hands bytes to the caller before
// it answers. The caller is told whether they are complete.
func Stream[Req, Resp any](name string, f func(context.Context, Req, io.Writer) (Resp, error)) Method {
	return Method{Name: name, call: func(ctx context.Context, params json.RawMessage, _ io.Reader, body io.Writer) (any, error) {
		var req Req
		if err := decodeRequest(params, &req); err != nil {
			return nil, err
		}
		return f(ctx, req, body)
	}}
}

// Upload makes a method of a function that takes bytes from the caller before
// it answers. An upload that breaks off gives io.ErrUnexpectedEOF, in the place
// of io.EOF; then nothing of it may stay.
func Upload[Req, Resp any](name string, f func(context.Context, Req, io.Reader) (Resp, error)) Method {
	return Method{Name: name, upload: true, call: func(ctx context.Context, params json.RawMessage, up io.Reader, _ io.Writer) (any, error) {
		var req Req
		if err := decodeRequest(params, &req); err != nil {
			return nil, err
		}
		return f(ctx, req, up)
	}}
}

func decodeRequest(params json.RawMessage, req any) error {
	if err := decodeStrictly(params, req); err != nil {
		return Errorf(CodeInvalid, "the request can not be read: %v", err).
			Then("The command and the daemon may be of different versions: restart the daemon.")
	}
	return nil
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
