//go:build !nocard

package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"pibox/internal/card"
	"pibox/internal/health"
	"pibox/internal/slot"
)

func cardCmds(a *app) []*cobra.Command { return []*cobra.Command{cardCmd(a)} }

// cardCmd is what the units of the card image run as root; docs/card.md.
func cardCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "card", Short: "What the SD card's system runs by itself", Hidden: true,
		Long:    "What the system on the SD card runs by itself, as root, around the server. docs/card.md tells it.",
		Example: "  pibox card boot\n  pibox card check /media/PIBOX/pibox.toml",
	}
	p := card.Places()
	m := card.ThisMachine()
	flags := c.PersistentFlags()
	flags.StringVar(&p.FAT, "fat", p.FAT, "`folder` of the card's first partition")
	flags.StringVar(&p.Data, "data", p.Data, "`folder` of the data partition")
	flags.StringVar(&p.Store, "store", p.Store, "`path` of the database")
	flags.StringVar(&p.Run, "run", p.Run, "`folder` for what the server is told")
	flags.StringVar(&p.Daemon, "daemon", p.Daemon, "`folder` in which the server tells how it is")
	flags.StringVar(&m.User, "user", m.User, "the `user` that the server runs as")
	flags.BoolVar(&m.Try, "try", false, "take plain folders for partitions, and change nothing of this machine")
	flags.StringVar(&m.TTY, "screen", m.TTY, "the attached screen's `device`")
	made := func() *card.Card { return card.New(p, m, cardLog(a)) }
	sub := func(use, short, example string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) {
		c.AddCommand(&cobra.Command{Use: use, Short: short, Example: example, Args: args, RunE: ran(run)})
	}
	sub("boot", "Take over pibox.toml, before the server starts", "  pibox card boot", cobra.NoArgs, func(context.Context, []string) error {
		for _, f := range made().Boot() {
			if f.Severity == card.Failing {
				return silentError{exitFailed}
			}
		}
		return nil
	})
	sub("status", "Show how the box is on the card and the screen", "  pibox card status", cobra.NoArgs, func(context.Context, []string) error {
		return made().Status()
	})
	sub("fault", "Show why the server can not start", "  pibox card fault", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return made().Fault(ctx, health.LEDConfig{})
	})
	sub("grow", "Let the data partition fill the card, before it is mounted", "  pibox card grow", cobra.NoArgs, func(context.Context, []string) error {
		return a.growData()
	})
	sub("lay FOLDER", "Write the files that lie on a new card", "  pibox card lay fat", needs("a folder", "fat"), func(_ context.Context, args []string) error {
		return card.Lay(args[0])
	})
	sub("check FILE", "Tell all mistakes in a pibox.toml for the card", "  pibox card check pibox.toml", needs("a file", "pibox.toml"), func(_ context.Context, args []string) error {
		return a.checkCard(args[0])
	})
	return c
}

// growData finds the partitions by the names that the initrd gave them (image/initramfs/card).
func (a *app) growData() error {
	disk, err := filepath.EvalSymlinks("/dev/pibox/card")
	if err != nil {
		return err
	}
	part, err := filepath.EvalSymlinks("/dev/pibox/data")
	if err != nil {
		return err
	}
	g, err := slot.Grow(slot.Device{Path: disk}, part, "/sys")
	if g.From != g.To {
		a.say("the data partition grows from %s to %s", size(g.From), size(g.To))
	}
	return err
}

func (a *app) checkCard(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	problems := card.Check(path, string(raw), a.now())
	if err := problems.Err(); err != nil {
		return err
	}
	for _, warning := range problems {
		a.say("%s", warning)
	}
	a.print(nil, "%s is in order.", path)
	return nil
}

// cardLog writes to standard error, which the journal stamps.
func cardLog(a *app) *slog.Logger {
	return slog.New(slog.NewTextHandler(cardWriter{a.err}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
		if attr.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return attr
	}}))
}

// cardWriter gives each line its priority for the journal (sd-daemon(3)).
type cardWriter struct{ io.Writer }

func (w cardWriter) Write(b []byte) (int, error) {
	prefix := "<6>"
	if strings.HasPrefix(string(b), "level=WARN") {
		prefix = "<4>"
	} else if strings.HasPrefix(string(b), "level=ERROR") {
		prefix = "<3>"
	}
	_, err := w.Writer.Write(append([]byte(prefix), b...))
	return len(b), err
}
