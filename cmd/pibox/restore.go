package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
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
		Args:    cobra.ExactArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			cfg, err := a.checked()
			if err != nil {
				return err
			}
			if a.client().Running(ctx) {
				return admin.Errorf(admin.CodeRunning, "the server is running").
					Then("Stop it first, with 'systemctl stop pibox' or Ctrl-C where it runs.")
			}
			in := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				in = f
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
