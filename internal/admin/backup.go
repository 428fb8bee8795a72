package admin

import (
	"context"
	"io"
	"time"
)

// BackupAPI is what can be done with backups while the box runs.
type BackupAPI interface {
	// Backup writes the whole box to w while it goes on serving: the plain stream of package backup, which the caller compresses and encrypts, so
	// that no pass phrase comes to the daemon. A write to w may wait for a slow reader for up to writeTimeout.
	Backup(ctx context.Context, req BackupRequest, w io.Writer) (BackupResponse, error)
	// RestoreConfirm says that the box of which this one was restored is gone: moving goes on.
	RestoreConfirm(ctx context.Context, req RestoreConfirmRequest) (RestoreConfirmResponse, error)
}

// BackupRequest asks for a backup.
type BackupRequest struct{}

// BackupResponse describes the backup that was written.
type BackupResponse struct {
	Schema   int       `json:"schema"`
	Taken    time.Time `json:"taken"` // everything acknowledged before is in it
	Domains  []string  `json:"domains"`
	Accounts int       `json:"accounts"`
	Messages int       `json:"messages"`
}

// RestoreConfirmRequest says that the old box is gone.
type RestoreConfirmRequest struct{}

// RestoreConfirmResponse tells what that changed.
type RestoreConfirmResponse struct {
	Held bool `json:"held"` // until now
}

// Backup implements API. What was written to w is a backup only when the
// error is nil.
func (c *Client) Backup(ctx context.Context, req BackupRequest, w io.Writer) (BackupResponse, error) {
	return Do[BackupResponse](ctx, c, methodBackup, req, w)
}

// RestoreConfirm implements API.
func (c *Client) RestoreConfirm(ctx context.Context, req RestoreConfirmRequest) (RestoreConfirmResponse, error) {
	return Do[RestoreConfirmResponse](ctx, c, methodRestoreConfirm, req, nil)
}
