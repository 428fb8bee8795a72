package box

import (
	"context"
	"errors"
	"net"
	"time"

	"pibox/internal/admin"
	"pibox/internal/transfer"
)

// TransferOffer implements admin.API.
func (d *Daemon) TransferOffer(_ context.Context, req admin.TransferOfferRequest) (resp admin.TransferOfferResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	if _, _, err := net.SplitHostPort(req.Listen); err != nil {
		return resp, admin.Errorf(admin.CodeInvalid, "%q is no address with a port, such as :5271", req.Listen)
	}
	d.handing.Lock()
	busy := d.handing.busy != ""
	resp.Voided = d.handing.offer != nil && time.Now().Before(d.handing.offer.until)
	d.handing.Unlock()
	if busy {
		return admin.TransferOfferResponse{}, errHandingNow()
	}
	d.endOffer()
	code, until := transfer.NewCode(), time.Now().Add(offerTime)
	if err := d.openOffer(req.Listen, code.Key(), until); err != nil {
		return resp, admin.Errorf(admin.CodeInvalid, "%v", err)
	}
	d.handing.Lock()
	at := d.handing.offer.listener.Addr()
	d.handing.Unlock()
	if err := writeHandover(s.box.Store, &handover{Key: code.Key(), Listen: at.String(), Until: until.UTC()}); err != nil {
		d.endOffer()
		return resp, told(err)
	}
	resp.Code, resp.Expires = code.String(), until
	for _, h := range hosts(at) {
		resp.Addresses = append(resp.Addresses, net.JoinHostPort(h, port(at)))
	}
	return resp, nil
}

// errHandingNow: the code is in use.
func errHandingNow() error {
	return admin.Errorf(admin.CodeBusy, "a new box uses the code that was shown, and this one is being handed over to it now").
		Then("See there how it goes. Should it fail, this box serves again by itself; then try again.")
}

// TransferWithdraw implements admin.API.
func (d *Daemon) TransferWithdraw(context.Context, admin.TransferWithdrawRequest) (resp admin.TransferWithdrawResponse, err error) {
	s, err := d.serving()
	if err != nil {
		return resp, err
	}
	d.handing.Lock()
	open, busy := d.handing.offer != nil, d.handing.busy != ""
	d.handing.Unlock()
	switch {
	case busy:
		return resp, errHandingNow()
	case !open:
		return resp, admin.Errorf(admin.CodeNotFound, "there is no offer")
	}
	d.endOffer()
	return resp, told(writeHandover(s.box.Store, nil))
}

// TransferReopen implements admin.API.
func (d *Daemon) TransferReopen(context.Context, admin.TransferReopenRequest) (resp admin.TransferReopenResponse, err error) {
	d.handing.Lock()
	defer d.handing.Unlock()
	h := d.handing.given
	if h == nil || d.handing.store == nil {
		return resp, admin.Errorf(admin.CodeNotFound, "this box was not handed over")
	}
	if err := writeHandover(d.handing.store, nil); err != nil {
		return resp, errors.Join(errors.New("taking the box back"), err)
	}
	resp.To, resp.At = h.To, h.At
	d.handing.given = nil
	close(d.handing.reopen)
	d.handing.reopen = nil
	return resp, nil
}
