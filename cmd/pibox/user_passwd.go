package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userPasswdCmd(a *app) *cobra.Command {
	var from passwordFlags
	c := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Give an account another password",
		Long: `Give an account another password. Its devices are logged out and need the new one.

At a terminal the password is asked for; an empty one, and any other case without
--password-stdin, makes a random one that is shown once.`,
		Example: "  pibox user passwd juliet\n  pibox user passwd juliet --generate",
		Args:    needs("NAME", "juliet"),
		RunE: ran(func(ctx context.Context, args []string) error {
			if err := from.check(); err != nil {
				return err
			}
			if _, err := a.openUser(ctx, args[0]); err != nil {
				return err
			}
			pw, err := a.password(ctx, from, "New password for "+args[0])
			if err != nil {
				return err
			}
			resp, err := a.client().UserPassword(ctx, admin.UserPasswordRequest{User: args[0], Password: pw.text})
			if err != nil {
				return err
			}
			a.print(struct {
				admin.UserPasswordResponse
				Password string `json:"password,omitempty"`
			}{resp, pw.toShow()}, "%s has a new password; %s logged out.%s", resp.Address, plural(resp.Ended, "device"), pw.line())
			return nil
		}),
	}
	from.add(c)
	return a.jsonFlag(c)
}
