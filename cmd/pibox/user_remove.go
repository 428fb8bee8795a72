package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userRemoveCmd(a *app) *cobra.Command {
	var yes, forward bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Delete an account with all it owns",
		Long: `Delete an account with its contacts, messages and everything else. This can not be undone.

With --forward an account that announced a move is closed instead: nobody logs in any more, and its
contacts are told the new address when they ask. Wait until they had time to follow: 90 days are usual.`,
		Example: "  pibox user remove juliet\n  pibox user remove juliet@family.example --yes\n  pibox user remove juliet --forward",
		Args:    cobra.ExactArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			if !yes {
				question := "Delete " + args[0] + " with all contacts and messages? This can not be undone."
				if forward {
					question = "Close " + args[0] + " and delete its messages? Its contacts are told the new address. This can not be undone."
				}
				if err := a.confirm(ctx, question); err != nil {
					return err
				}
			}
			resp, err := a.client().UserRemove(ctx, admin.UserRemoveRequest{User: args[0], Forward: forward})
			if err != nil {
				return err
			}
			a.print(resp, "Removed %s; %s logged out.", resp.Address, plural(resp.Ended, "device"))
			return nil
		}),
	}
	c.Flags().BoolVar(&forward, "forward", false, "close it and keep telling its contacts where it moved")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(c)
}
