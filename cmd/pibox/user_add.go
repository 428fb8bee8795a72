package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userAddCmd(a *app) *cobra.Command {
	var from passwordFlags
	var isAdmin, restricted bool
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an account",
		Long: `Make an account. NAME is an address, or its part before the @ for one at the main domain.

At a terminal the password is asked for; an empty one, and any other case without
--password-stdin, makes a random one that is shown once.`,
		Example: "  pibox user add juliet\n  pibox user add juliet@family.example --generate --json\n  pass show juliet | pibox user add juliet --password-stdin",
		Args:    cobra.ExactArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			pw, err := a.password(ctx, from, "Password for "+args[0])
			if err != nil {
				return err
			}
			resp, err := a.client().UserAdd(ctx, admin.UserAddRequest{User: args[0], Password: pw.text, Admin: isAdmin, Restricted: restricted})
			if err != nil {
				return err
			}
			a.print(struct {
				User     admin.User `json:"user"`
				Password string     `json:"password,omitempty"`
			}{resp.User, pw.toShow()}, "Made %s.%s", resp.User.Address, pw.line())
			return nil
		}),
	}
	from.add(c)
	c.Flags().BoolVar(&isAdmin, "admin", false, "an administrator of the box")
	c.Flags().BoolVar(&restricted, "restricted", false, "may not announce that the account moves, such as a child's")
	return a.jsonFlag(c)
}
