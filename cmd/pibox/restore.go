package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/config"
)

func restoreCmd(a *app) *cobra.Command {
	var replace, check, confirm bool
	var from keyFlags
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make this box the one of a backup, while the server is stopped",
		Long: `Check a backup and make this box the one that it was taken from: accounts, messages,
certificates, configuration. The server must be stopped. With - the backup is read from
standard input. What is there is left alone, or, with --replace, kept beside under another
name. Nothing is changed before the whole backup was checked.

A restored box serves at once, but moves nobody (XEP-0283) while the old one may still be
doing so. When that one is gone for good, say so: 'pibox restore --confirm'.

--check reads a backup whole and changes nothing.`,
		Example: "  systemctl stop pibox\n  pibox restore /mnt/usb/pibox-20261122T120000Z.age --replace\n  systemctl start pibox\n  pibox restore --confirm",
		Args: func(c *cobra.Command, args []string) error {
			if confirm {
				return cobra.NoArgs(c, args)
			}
			return needs("FILE", "/mnt/usb/pibox-20261122T120000Z.age")(c, args)
		},
		RunE: ran(func(ctx context.Context, args []string) error {
			switch {
			case confirm:
				return a.restoreConfirm(ctx)
			case check:
				return a.restoreCheck(ctx, args[0], from)
			}
			return a.restore(ctx, args[0], from, replace)
		}),
	}
	c.Flags().BoolVar(&replace, "replace", false, "put it in the place of the box that is there")
	c.Flags().BoolVar(&check, "check", false, "only read the backup whole, and tell what is in it")
	c.Flags().BoolVar(&confirm, "confirm", false, "say that the box of which this one was restored is gone")
	c.MarkFlagsMutuallyExclusive("replace", "check", "confirm")
	from.add(c)
	return a.jsonFlag(c)
}

func (a *app) restoreConfirm(ctx context.Context) error {
	resp, err := a.client().RestoreConfirm(ctx, admin.RestoreConfirmRequest{})
	if err != nil {
		return err
	}
	text := "The old box is gone: this one moves people again."
	if !resp.Held {
		text = "There was nothing to confirm: this box waits for nobody."
	}
	a.print(resp, "%s", text)
	return nil
}

func (a *app) restoreCheck(ctx context.Context, name string, from keyFlags) error {
	in, done, err := a.source(ctx, name, from)
	if err != nil {
		return err
	}
	defer done()
	m, err := box.Check(ctx, in)
	if err != nil {
		return err
	}
	a.print(m, "%s is whole: %s and %s of %s, taken %s by pibox %s.", in.Name, plural(m.Accounts, "account"), plural(m.Messages, "message"),
		strings.Join(m.Domains, ", "), m.Taken.Local().Format(time.DateTime), m.Version)
	return nil
}

func (a *app) restore(ctx context.Context, name string, from keyFlags, replace bool) error {
	cfg, err := a.stopped(ctx)
	if err != nil {
		return err
	}
	in, done, err := a.source(ctx, name, from)
	if err != nil {
		return err
	}
	defer done()
	in.Replace = replace
	result, err := a.program.Restore(ctx, cfg, in)
	if err != nil {
		return err
	}
	a.print(result, "%s", a.restoredText(result))
	return nil
}

// stopped gives the configuration where no server runs with it.
func (a *app) stopped(ctx context.Context) (config.Config, error) {
	cfg, err := a.checked()
	if err == nil && a.serves(ctx, box.StorePath(cfg)) {
		err = box.ErrRunning()
	}
	return cfg, err
}

// source opens a backup and what opens it.
func (a *app) source(ctx context.Context, name string, from keyFlags) (in box.Source, done func(), err error) {
	keys, err := a.keys(ctx, from, name)
	if err != nil {
		return in, nil, err
	}
	in = box.Source{Reader: a.in, Name: "the backup on standard input", Keys: keys, Config: a.file()}
	if name == "-" {
		return in, func() {}, nil
	}
	f, err := openBackup(name)
	if err != nil {
		return in, nil, err
	}
	in.Reader, in.Name = f, name
	return in, func() { _ = f.Close() }, nil
}

// restoredText tells what is there now and what to do next.
func (a *app) restoredText(r box.Restored) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Restored %s into %s.", plural(r.Users, "account"), r.Path)
	if r.Kept != "" {
		fmt.Fprintf(&b, " The one that was there is now %s.", r.Kept)
	}
	if r.KeptTLS != "" {
		fmt.Fprintf(&b, " Its certificates are in %s.", r.KeptTLS)
	}
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "\n  %-15s"+format, append([]any{name + ":"}, args...)...)
	}
	row("Domains", "%s", strings.Join(r.Domains, ", "))
	row("Messages", "%d", r.Messages)
	if len(r.Certificates) > 0 {
		row("Certificates", "%s, and the family's authority", strings.Join(r.Certificates, ", "))
	} else {
		row("Certificates", "none came along")
	}
	if !r.Taken.IsZero() {
		row("Taken", "%s by pibox %s", r.Taken.Local().Format(time.DateTime), r.Version)
	}
	if r.Config != "" {
		row("Configuration", "%s", r.Config)
	}
	if r.ConfigAside != "" {
		row("Configuration", "the one that came along does not count: %s", r.ConfigWhy)
		row("To compare", "%s", r.ConfigAside)
		if r.Named != "" {
			row("Its files", "in %s", r.Named)
		}
	}
	b.WriteString("\nStart the server now.")
	if r.Held {
		b.WriteString(" It moves nobody before you say that the old box is gone: 'pibox restore --confirm'.")
	}
	return b.String()
}

// serves tells whether the server that answers on the admin socket has this database. One that has it open, and is not to be asked, is found by
// its lock; one that could not open it, because it is damaged, has no lock.
func (a *app) serves(ctx context.Context, path string) bool {
	status, err := a.client().Status(ctx, admin.StatusRequest{})
	return err == nil && status.Store.Path == path
}

func openBackup(path string) (*os.File, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, admin.Errorf(admin.CodeNotFound, "%s: there is no such file", path)
	case err != nil:
		return nil, mayNot(err, "read", filepath.Clean(path))
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, admin.Errorf(admin.CodeInvalid, "%s is a folder", path).Then("Name the backup in it.")
	}
	return f, nil
}

// mayNot tells a person whom the system refused what to do; other errors it leaves alone.
func mayNot(err error, what, path string) error {
	var known *admin.Error
	if !errors.Is(err, fs.ErrPermission) || errors.As(err, &known) {
		return err
	}
	return admin.Errorf(admin.CodeForbidden, "this user may not %s %s", what, path).
		Then("Use sudo, or run the command as the user the box runs as: 'sudo -u pibox pibox …'.")
}
