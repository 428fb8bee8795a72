package main

import (
	"context"

	"pibox/internal/admin"
)

// fakeMigration is under way when it is begun, and over when it is looked at.
func (b *fakeBox) fakeMigration(kind, old, new string) admin.MigrationResponse {
	t := admin.Migration{Kind: kind, Old: old, New: new, State: admin.MigrationRunning, Part: "archive", Began: b.started}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.migration = t
	return admin.MigrationResponse{Migration: t}
}

func (b *fakeBox) MoveBring(_ context.Context, req admin.MoveBringRequest) (admin.MigrationResponse, error) {
	if req.OldPassword == "" && req.Old == "brought@old.example" {
		return admin.MigrationResponse{Migration: admin.Migration{Kind: "bring", Old: req.Old, New: b.address(req.New), State: admin.MigrationDone, Before: b.started}}, nil
	}
	if req.OldPassword == "" {
		missing := admin.Errorf(admin.CodePassword, "the password is missing")
		missing.Account = b.address(req.New)
		return admin.MigrationResponse{}, missing
	}
	if req.OldPassword != "wherefore art" {
		return admin.MigrationResponse{}, admin.Errorf(admin.CodeFailed, "old.example does not accept this password").Then("Check the address and the password.")
	}
	if req.DryRun {
		return admin.MigrationResponse{Migration: admin.Migration{Old: req.Old, New: req.New, State: admin.MigrationDone, Counts: admin.MigrationCounts{Contacts: 3}}}, nil
	}
	return b.fakeMigration("bring", req.Old, b.address(req.New)), nil
}

func (b *fakeBox) MoveLeave(_ context.Context, req admin.MoveLeaveRequest) (admin.MigrationResponse, error) {
	if req.New == "juliet@refused.example" {
		return admin.MigrationResponse{}, admin.Errorf(admin.CodeInvalid, "juliet has moved already")
	}
	if req.Password != "" && req.Password != "wherefore art" {
		return admin.MigrationResponse{}, admin.Errorf(admin.CodeFailed, "away.example does not accept this password")
	}
	if req.Password == "" || req.DryRun {
		return admin.MigrationResponse{Migration: admin.Migration{Kind: "leave", Old: b.address(req.Account), New: req.New, State: admin.MigrationDone}}, nil
	}
	return b.fakeMigration("leave", b.address(req.Account), req.New), nil
}

func (b *fakeBox) Migration(_ context.Context, req admin.MigrationRequest) (admin.MigrationResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.migration.New == "" || b.migration.New != b.address(req.New) {
		return admin.MigrationResponse{}, admin.Errorf(admin.CodeNotFound, "nothing is on its way to %s", req.New)
	}
	t := b.migration
	if t.State == admin.MigrationRunning && t.Old != "endless@old.example" {
		t.State, t.Part, t.Ended = admin.MigrationDone, "", b.started
		t.Counts = admin.MigrationCounts{Contacts: 3, Archived: 12345, Bytes: 1 << 20, Items: 1, Told: 2}
		t.Losses = []admin.MigrationLoss{{What: "keys of OMEMO", Why: "they belong to devices", Count: 2}}
		t.Lacks = []string{"it does not tell who may read the statement"}
		if t.Kind == "bring" {
			t.Password = "made-made-made-made"
		}
		if t.Old == "broken@old.example" {
			t.State, t.Error = admin.MigrationFailed, admin.Errorf(admin.CodeFailed, "the server of old.example did not answer in time").Then("Try again later.")
		}
		b.migration = t
	}
	return admin.MigrationResponse{Migration: t}, nil
}

func (b *fakeBox) MigrationStop(_ context.Context, _ admin.MigrationRequest) (admin.MigrationResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.migration.State = admin.MigrationFailed
	return admin.MigrationResponse{Migration: b.migration}, nil
}
