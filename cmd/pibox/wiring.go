package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/box"
	"pibox/internal/config"
)

// wired is the program: internal/box behind the commands.
type wired struct{}

func (wired) Serve(ctx context.Context, cfg config.Config, source box.ConfigSource, out io.Writer) error {
	d := box.NewDaemon(cfg, version, newLog(cfg.Log), out)
	d.SetSource(source)
	if run := os.Getenv(cardEnv); run != "" {
		d.SetCard(run)
	}
	return d.Serve(ctx)
}

func (wired) Restore(ctx context.Context, cfg config.Config, in box.Source) (box.Restored, error) {
	return box.Restore(ctx, cfg, in)
}

func (wired) Fetch(ctx context.Context, cfg config.Config, req box.FetchRequest) (box.Restored, error) {
	return box.Fetch(ctx, cfg, req)
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

// childCmds are what the program runs in a child process of itself; see internal/box.
func childCmds(a *app) []*cobra.Command {
	child := func(use, short string, args int) *cobra.Command {
		word, _, _ := strings.Cut(use, " ")
		return &cobra.Command{
			Use: use, Short: short, Example: "  pibox " + use, Args: cobra.ExactArgs(args), Hidden: true,
			RunE: ran(func(_ context.Context, args []string) error {
				if code := box.Child(append([]string{word}, args...), a.out, a.err); code != exitOK {
					return silentError{code}
				}
				return nil
			}),
		}
	}
	return []*cobra.Command{
		child(box.ChildCheck+" FILE", "Read a database or a backup whole, without changing it", 1),
		child(box.ChildPrepare+" BACKUP NEW", "Check a copy of a database and make a database of it", 2),
		child(box.ChildAdopt+" FILE RESTORED", "Check a database of another box and make it one to serve from", 2),
	}
}
