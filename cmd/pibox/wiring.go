package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"pibox/internal/box"
	"pibox/internal/config"
	"pibox/internal/store"
)

// wired is the program: internal/box behind the commands.
type wired struct{}

func (wired) Serve(ctx context.Context, cfg config.Config, out io.Writer) error {
	return box.NewDaemon(cfg, version, newLog(cfg.Log), out).Serve(ctx)
}

// newLog logs to standard error. The journal of systemd stamps each line itself.
func newLog(cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // the configuration allows only names that are understood
	opt := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		opt.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
	}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

// checkStoreCmd is how the daemon tries its database before it opens it; a damaged page may end the process that reads it.
func checkStoreCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "check-store FILE",
		Short:   "Read a database or a backup whole, without changing it",
		Example: "  pibox check-store /mnt/usb/pibox-20261122T120000Z.db",
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE:    ran(func(_ context.Context, args []string) error { return store.Check(args[0]) }),
	}
}
