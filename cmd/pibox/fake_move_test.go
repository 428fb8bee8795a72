package main

import (
	"context"
	"time"

	"pibox/internal/admin"
)

func (b *fakeBox) fakeMove(new string) admin.Move {
	return admin.Move{
		Old: "juliet@old.example", New: new, State: "running", Created: b.started, Started: b.started, ForwardsUntil: b.started.Add(80 * 24 * time.Hour),
		Contacts: []admin.MoveContact{
			{Address: "nurse@old.example", Was: "both", Now: "both", State: "followed", Since: b.started.Add(-time.Hour)},
			{Address: "romeo@away.example", Was: "both", Now: "none", State: "unreachable", Since: b.started.Add(-26 * time.Hour), Detail: "away.example could not be reached"},
			{Address: "asks@away.example", Now: "none", State: "kept"},
		},
	}
}

func (b *fakeBox) MovePlan(_ context.Context, req admin.MovePlanRequest) (admin.MovePlanResponse, error) {
	return admin.MovePlanResponse{Plans: []admin.MovePlan{{
		Old: req.Old, New: req.New, Exists: true, Contacts: []admin.MovePlanContact{
			{Address: "nurse@old.example", Was: "both", Prospect: "follows", Why: "is on this box"},
			{Address: "romeo@away.example", Was: "to", Prospect: "unreachable", Why: "away.example did not answer", Request: true},
		},
	}}, Staying: []admin.MoveStaying{{Address: "tybalt@old.example", Why: "closed"}}}, nil
}

func (b *fakeBox) MoveStart(_ context.Context, req admin.MoveStartRequest) (admin.MoveStartResponse, error) {
	if req.Old == "juliet@elsewhere.example" && !req.Unverified {
		return admin.MoveStartResponse{}, admin.Errorf(admin.CodeFailed, "it does not announce the move").Then("Add --unverified.")
	}
	return admin.MoveStartResponse{Move: b.fakeMove(req.New)}, nil
}

func (b *fakeBox) MoveFamily(_ context.Context, req admin.MoveFamilyRequest) (admin.MoveFamilyResponse, error) {
	if !req.Merge && req.NewDomain == "taken.example" {
		return admin.MoveFamilyResponse{}, admin.Errorf(admin.CodeExists, "juliet@taken.example: there is an account already")
	}
	return admin.MoveFamilyResponse{Moves: []admin.Move{b.fakeMove("juliet@" + req.NewDomain)}, Staying: []admin.MoveStaying{{Address: "tybalt@old.example", Why: "closed"}}}, nil
}

func (b *fakeBox) MoveStatus(_ context.Context, req admin.MoveStatusRequest) (admin.MoveStatusResponse, error) {
	if req.New == "nobody@new.example" {
		return admin.MoveStatusResponse{}, admin.Errorf(admin.CodeNotFound, "there is no move to %s", req.New)
	}
	if req.New == "cut@new.example" {
		cut := admin.Move{Old: "cut@old.example", New: req.New, State: "planned", Contacts: []admin.MoveContact{}, Session: &admin.Migration{
			Kind: "bring", Old: "cut@old.example", New: req.New, State: admin.MigrationInterrupted,
			Error: admin.Errorf(admin.CodeFailed, "a restart of the box interrupted it").
				Then("Give the password of cut@old.example again with 'pibox move bring cut@old.example cut@new.example'."),
		}}
		return admin.MoveStatusResponse{Moves: []admin.Move{cut}}, nil
	}
	done := admin.Move{Old: "old@old.example", New: "old@new.example", State: "done", Closed: true, Contacts: []admin.MoveContact{}}
	return admin.MoveStatusResponse{Moves: []admin.Move{b.fakeMove("juliet@new.example"), done}}, nil
}

func (b *fakeBox) MoveCancel(_ context.Context, req admin.MoveCancelRequest) (admin.MoveCancelResponse, error) {
	return admin.MoveCancelResponse{Stopped: []admin.MoveStopped{{
		Old: "juliet@old.example", New: req.New, Followed: []string{"nurse@old.example"}, Asked: []string{}, Stopped: []string{"romeo@away.example"}, Statement: "stays",
	}}}, nil
}

func (b *fakeBox) MoveUndo(_ context.Context, req admin.MoveUndoRequest) (admin.MoveUndoResponse, error) {
	return admin.MoveUndoResponse{Undone: []admin.MoveStopped{{
		Old: "juliet@old.example", New: req.New, Followed: []string{"nurse@old.example"}, Asked: []string{}, Stopped: []string{"romeo@away.example"}, Statement: "elsewhere",
	}}}, nil
}

func (b *fakeBox) MoveClose(_ context.Context, req admin.MoveCloseRequest) (admin.MoveCloseResponse, error) {
	if !req.Now {
		return admin.MoveCloseResponse{}, admin.Errorf(admin.CodeBusy, "%s is still forwarding", req.Old).Then("Wait, or add --now.")
	}
	return admin.MoveCloseResponse{Closed: []admin.MoveClosed{{Address: req.Old, MovedTo: "juliet@new.example", Ended: 1}}}, nil
}
