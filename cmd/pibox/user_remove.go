package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userRemoveCmd(a *app) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Delete an account with all it owns",
		Long:    "Delete an account with its contacts, messages and everything else. This can not be undone.",
		Example: "  pibox user remove juliet\n  pibox user remove juliet@family.example --yes",
		Args:    cobra.ExactArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			if !yes {
				if err := a.confirm(ctx, "Delete "+args[0]+" with all contacts and messages? This can not be undone."); err != nil {
					return err
				}
			}
			resp, err := a.client().UserRemove(ctx, admin.UserRemoveRequest{User: args[0]})
			if err != nil {
				return err
			}
			a.print(resp, "Removed %s; %s logged out.", resp.Address, plural(resp.Ended, "device"))
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(c)
}
