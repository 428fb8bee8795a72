package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
)

func restoreCmd(a *app) *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in place while the server is stopped",
		Long: `Check a backup and make it the database. The server must be stopped. With - the backup is
read from standard input. A database that is there is left alone, or, with --replace, kept
beside under another name.`,
		Example: "  systemctl stop pibox\n  pibox restore /mnt/usb/pibox-20261122T120000Z.db --replace\n  systemctl start pibox",
		Args:    needs("FILE", "/mnt/usb/pibox-20261122T120000Z.db"),
		RunE: ran(func(ctx context.Context, args []string) error {
			cfg, err := a.checked()
			if err != nil {
				return err
			}
			if a.serves(ctx, box.StorePath(cfg)) {
				return errRunning()
			}
			in := backupFile{a.in, "the backup on standard input"}
			if args[0] != "-" {
				f, err := openBackup(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				in = backupFile{f, args[0]}
			}
			result, err := a.program.Restore(ctx, cfg, in, replace)
			if err != nil {
				return err
			}
			kept := ""
			if result.Kept != "" {
				kept = " The one that was there is now " + result.Kept + "."
			}
			a.print(result, "Restored %s into %s.%s Start the server now.", plural(result.Users, "account"), result.Path, kept)
			return nil
		}),
	}
	c.Flags().BoolVar(&replace, "replace", false, "put it in the place of the database that is there")
	return a.jsonFlag(c)
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
		return nil, mayNot(err, "read", path)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, admin.Errorf(admin.CodeInvalid, "%s is a folder", path).Then("Name the backup in it.")
	}
	return f, nil
}
