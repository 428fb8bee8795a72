package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/slot"
	"pibox/internal/update"
)

// Place is a system in the script's folder.
func (b *fakeBox) Place() update.Place {
	dir := os.Getenv("PIBOX_TEST_SYSTEM")
	in := func(name string) string { return filepath.Join(dir, name) }
	return update.Place{
		Slot:    slot.Where{Cmdline: in("cmdline"), Sys: in("sys"), Dev: in("dev"), Root: "179:2"},
		Release: in("os-release"), Keys: in("update-keys"), Data: in("data"), RunDir: in("run"), Folders: []string{in("stick")}, Request: in("request.json"),
	}
}

func (b *fakeBox) UpdateCheck(_ context.Context, req admin.UpdateCheckRequest) (admin.UpdateCheckResponse, error) {
	if !strings.HasSuffix(req.From, ".update") {
		return admin.UpdateCheckResponse{}, admin.Errorf(admin.CodeInvalid, "this is no update file that this box trusts")
	}
	return admin.UpdateCheckResponse{From: req.From, Version: "2.0", Date: time.Unix(1795372800, 0), Bytes: 1 << 20}, nil
}

func (b *fakeBox) UpdateStart(ctx context.Context, req admin.UpdateStartRequest) (admin.UpdateStartResponse, error) {
	return b.UpdateCheck(ctx, admin.UpdateCheckRequest(req))
}

func (b *fakeBox) UpdateStatus(context.Context, admin.UpdateStatusRequest) (admin.UpdateStatusResponse, error) {
	return admin.UpdateStatusResponse{Image: true, Version: "1.0", Slot: "a"}, nil
}
