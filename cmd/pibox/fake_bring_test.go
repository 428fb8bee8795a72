package main

import (
	"context"

	"pibox/internal/admin"
)

// fakeTransfer is under way when it is begun, and over when it is looked at.
func (b *fakeBox) fakeTransfer(kind, old, new string) admin.TransferResponse {
	t := admin.Transfer{Kind: kind, Old: old, New: new, State: admin.TransferRunning, Part: "archive", Began: b.started}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.transfer = t
	return admin.TransferResponse{Transfer: t}
}

func (b *fakeBox) MoveBring(_ context.Context, req admin.MoveBringRequest) (admin.TransferResponse, error) {
	if req.OldPassword != "wherefore art" {
		return admin.TransferResponse{}, admin.Errorf(admin.CodeFailed, "old.example does not accept this password").Then("Check the address and the password.")
	}
	if req.DryRun {
		return admin.TransferResponse{Transfer: admin.Transfer{Old: req.Old, New: req.New, State: admin.TransferDone, Counts: admin.TransferCounts{Contacts: 3}}}, nil
	}
	return b.fakeTransfer("bring", req.Old, b.address(req.New)), nil
}

func (b *fakeBox) MoveLeave(_ context.Context, req admin.MoveLeaveRequest) (admin.TransferResponse, error) {
	if req.Password == "" {
		return admin.TransferResponse{Transfer: admin.Transfer{Kind: "leave", Old: b.address(req.Account), New: req.New, State: admin.TransferDone}}, nil
	}
	return b.fakeTransfer("leave", b.address(req.Account), req.New), nil
}

func (b *fakeBox) Transfer(_ context.Context, req admin.TransferRequest) (admin.TransferResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.transfer.New == "" || b.transfer.New != b.address(req.New) {
		return admin.TransferResponse{}, admin.Errorf(admin.CodeNotFound, "nothing is on its way to %s", req.New)
	}
	t := b.transfer
	if t.State == admin.TransferRunning && t.Old != "endless@old.example" {
		t.State, t.Part, t.Ended = admin.TransferDone, "", b.started
		t.Counts = admin.TransferCounts{Contacts: 3, Archived: 12345, Bytes: 1 << 20, Items: 1, Told: 2}
		t.Losses = []admin.TransferLoss{{What: "keys of OMEMO", Why: "they belong to devices", Count: 2}}
		t.Lacks = []string{"it does not tell who may read the statement"}
		if t.Kind == "bring" {
			t.Password = "made-made-made-made"
		}
		if t.Old == "broken@old.example" {
			t.State, t.Error = admin.TransferFailed, admin.Errorf(admin.CodeFailed, "the server of old.example did not answer in time").Then("Try again later.")
		}
		b.transfer = t
	}
	return admin.TransferResponse{Transfer: t}, nil
}

func (b *fakeBox) TransferStop(_ context.Context, _ admin.TransferRequest) (admin.TransferResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.transfer.State = admin.TransferFailed
	return admin.TransferResponse{Transfer: b.transfer}, nil
}
