package admin

import (
	"context"
	"time"
)

// TransferAPI is the old box's side of handing it over to a new one.
type TransferAPI interface {
	// TransferOffer lets a new box fetch this one, once, with a code. The box goes on serving until one does. An earlier offer ends. Errors:
	// CodeFailed (it does not serve), CodeInvalid (it can not listen there).
	TransferOffer(ctx context.Context, req TransferOfferRequest) (TransferOfferResponse, error)
	// TransferWithdraw ends an offer. Errors: CodeNotFound.
	TransferWithdraw(ctx context.Context, req TransferWithdrawRequest) (TransferWithdrawResponse, error)
	// TransferReopen lets a box serve again that was handed over: only when the new one does not. Errors: CodeNotFound (it was not handed over).
	TransferReopen(ctx context.Context, req TransferReopenRequest) (TransferReopenResponse, error)
}

// TransferOfferRequest asks for a code.
type TransferOfferRequest struct {
	Listen string `json:"listen"` // address with a port; port 0 is any free one
}

// TransferOfferResponse is what the person carries to the new box.
type TransferOfferResponse struct {
	Code      string    `json:"code"`
	Addresses []string  `json:"addresses"` // under which this box listens
	Expires   time.Time `json:"expires"`
	// Voided: an earlier code, which could have been used until now, is worth nothing any more.
	Voided bool `json:"voided,omitempty"`
}

// TransferWithdrawRequest ends an offer.
type TransferWithdrawRequest struct{}

// TransferWithdrawResponse tells that it ended.
type TransferWithdrawResponse struct{}

// TransferReopenRequest takes the box back.
type TransferReopenRequest struct{}

// TransferReopenResponse tells what it was.
type TransferReopenResponse struct {
	To string    `json:"to"` // the box that it was handed over to
	At time.Time `json:"at"`
}

// TransferOffer implements API.
func (c *Client) TransferOffer(ctx context.Context, req TransferOfferRequest) (TransferOfferResponse, error) {
	return Do[TransferOfferResponse](ctx, c, methodTransferOffer, req, nil)
}

// TransferWithdraw implements API.
func (c *Client) TransferWithdraw(ctx context.Context, req TransferWithdrawRequest) (TransferWithdrawResponse, error) {
	return Do[TransferWithdrawResponse](ctx, c, methodTransferWithdraw, req, nil)
}

// TransferReopen implements API.
func (c *Client) TransferReopen(ctx context.Context, req TransferReopenRequest) (TransferReopenResponse, error) {
	return Do[TransferReopenResponse](ctx, c, methodTransferReopen, req, nil)
}
