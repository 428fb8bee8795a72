package box

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"pibox/internal/admin"
	"pibox/internal/health"
	"pibox/internal/update"
)

// UpdateCheck implements admin.API. The daemon reads the update itself; root does so again before it writes.
func (d *Daemon) UpdateCheck(ctx context.Context, req admin.UpdateCheckRequest) (resp admin.UpdateCheckResponse, err error) {
	from := req.From
	if from == "" {
		if from, err = d.place.Find(ctx); err != nil {
			return resp, err
		}
	}
	m, err := d.place.Check(ctx, from)
	if errors.Is(err, fs.ErrPermission) {
		err = admin.Errorf(admin.CodeForbidden, "the box may not read %s", from).Then("Put it on the card's first partition or on a USB stick.")
	}
	return admin.UpdateCheckResponse{From: from, Version: m.Version, Date: m.Date(), Bytes: m.Packed()}, err
}

// UpdateStart implements admin.API. The daemon may write to no slot: it asks root's unit.
func (d *Daemon) UpdateStart(ctx context.Context, req admin.UpdateStartRequest) (resp admin.UpdateStartResponse, err error) {
	if d.unconfirmed() {
		return resp, admin.Errorf(admin.CodeBusy, "the box is trying an update").Then("Wait until that is over; it takes a few minutes.")
	}
	if now, _, err := d.place.Status(); err == nil && now.Running {
		return resp, admin.Errorf(admin.CodeBusy, "an update is being installed already").Then("'pibox update --status' tells how far it is.")
	}
	if resp, err = d.UpdateCheck(ctx, admin.UpdateCheckRequest(req)); err != nil {
		return resp, err
	}
	return resp, d.place.Ask(update.Request{From: resp.From})
}

// UpdateStatus implements admin.API.
func (d *Daemon) UpdateStatus(context.Context, admin.UpdateStatusRequest) (resp admin.UpdateStatusResponse, err error) {
	have, err := d.place.Installed()
	var known *admin.Error
	if errors.As(err, &known) {
		return resp, nil // no image
	}
	if err != nil {
		return resp, err
	}
	running, err := d.place.Running()
	if err != nil {
		return resp, err
	}
	resp = admin.UpdateStatusResponse{
		Image: true, Version: have.Version, Slot: running.Slot, Trial: running.Unconfirmed(), Waits: d.waiting.Load(),
	}
	now, _, err := d.place.Status()
	if err != nil {
		return resp, err
	}
	resp.Installing, resp.Step, resp.Done, resp.Total = now.Running, string(now.Progress.Step), now.Progress.Done, now.Progress.Total
	resp.Restart, resp.Error, resp.Next = now.Restart, now.Error, now.Next
	last, there, err := d.place.Last()
	if there && err == nil {
		resp.Last, resp.LastResult, resp.LastAt = last.Words(), string(last.Result), last.At
	}
	return resp, err
}

// watchUpdate tells of an update that did not work, for as long as it is the last one.
func (d *Daemon) watchUpdate() {
	const fact = "update"
	last, there, err := d.place.Last()
	if err != nil && !os.IsPermission(err) {
		d.log.Warn("it is not known what became of the last update", "error", err)
	}
	if there && last.Result == update.ResultRolledBack {
		d.health.Set(health.Fact{Name: fact, Severity: health.Degraded, Text: last.Words()})
		return
	}
	d.health.Clear(fact)
}
