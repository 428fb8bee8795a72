package admin

import (
	"context"
	"time"
)

// UpdateAPI is about the system of a box that was installed from the card image: docs/updates.md.
type UpdateAPI interface {
	// UpdateCheck looks at an update and changes nothing. Without a name it looks on the card's first partition and on a USB stick. Errors:
	// CodeInvalid (not signed, for another computer, older), CodeExists (it runs already), CodeNotFound, CodeFailed (it can not be fetched; no image).
	UpdateCheck(ctx context.Context, req UpdateCheckRequest) (UpdateCheckResponse, error)
	// UpdateStart has an update installed, and the box restarted; UpdateStatus tells how that goes. Errors: as UpdateCheck, CodeBusy.
	UpdateStart(ctx context.Context, req UpdateStartRequest) (UpdateStartResponse, error)
	// UpdateStatus tells which system runs and what became of the last update. It answers also while the box does not serve.
	UpdateStatus(ctx context.Context, req UpdateStatusRequest) (UpdateStatusResponse, error)
}

// UpdateCheckRequest names an update.
type UpdateCheckRequest struct {
	From string `json:"from,omitempty"` // a file or a URL
}

// UpdateCheckResponse describes an update that can be installed.
type UpdateCheckResponse struct {
	From    string    `json:"from"`
	Version string    `json:"version"`
	Date    time.Time `json:"date"`  // of its sources
	Bytes   int64     `json:"bytes"` // of the file
}

// UpdateStartRequest names an update as UpdateCheckRequest does.
type UpdateStartRequest struct {
	From string `json:"from,omitempty"`
}

// UpdateStartResponse describes the update that is being installed.
type UpdateStartResponse = UpdateCheckResponse

// UpdateStatusRequest asks for the state.
type UpdateStatusRequest struct{}

// UpdateStatusResponse tells which system runs.
type UpdateStatusResponse struct {
	// Image tells that the box was installed from the card image; else nothing of the rest is known.
	Image   bool   `json:"image"`
	Version string `json:"version,omitempty"`
	Slot    string `json:"slot,omitempty"` // a or b
	// Trial: the system is being tried, and not confirmed yet.
	Trial bool `json:"trial,omitempty"`
	// Waits: the database was migrated, and the box serves as soon as the system is confirmed.
	Waits bool `json:"waits,omitempty"`

	Installing bool   `json:"installing,omitempty"`
	Step       string `json:"step,omitempty"` // writing, verifying
	Done       int64  `json:"done,omitempty"` // of Total bytes
	Total      int64  `json:"total,omitempty"`
	Restart    bool   `json:"restart,omitempty"` // it is installed, and the next start tries it
	Error      string `json:"error,omitempty"`   // why the last try to install one failed
	Next       string `json:"next,omitempty"`    // what to do about it

	// Last is what became of the last update, in words; LastResult one of pending, installed, rolled back, failed.
	Last       string    `json:"last,omitempty"`
	LastResult string    `json:"last_result,omitempty"`
	LastAt     time.Time `json:"last_at,omitzero"`
}

// UpdateCheck implements API.
func (c *Client) UpdateCheck(ctx context.Context, req UpdateCheckRequest) (UpdateCheckResponse, error) {
	return Do[UpdateCheckResponse](ctx, c, methodUpdateCheck, req, nil)
}

// UpdateStart implements API.
func (c *Client) UpdateStart(ctx context.Context, req UpdateStartRequest) (UpdateStartResponse, error) {
	return Do[UpdateStartResponse](ctx, c, methodUpdateStart, req, nil)
}

// UpdateStatus implements API.
func (c *Client) UpdateStatus(ctx context.Context, req UpdateStatusRequest) (UpdateStatusResponse, error) {
	return Do[UpdateStatusResponse](ctx, c, methodUpdateStatus, req, nil)
}
