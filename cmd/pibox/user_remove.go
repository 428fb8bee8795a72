package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userRemoveCmd(a *app) *cobra.Command {
	var yes, forward, drop bool
	c := &cobra.Command{
		Use:   "remove NAME",
		Short: "Delete an account with all it owns",
		Long: `Delete an account with its contacts, messages and everything else. This can not be undone.

With --forward an account that announced a move is closed instead: nobody logs in any more, and its
contacts are told the new address when they ask. Wait until they had time to follow: 90 days are usual.

The messages of an account that moved to another address of this box stay in the archive there. Where
they could not come along, nothing is removed without --drop-messages.`,
		Example: "  pibox user remove juliet\n  pibox user remove juliet@family.example --yes\n  pibox user remove juliet --forward",
		Args:    needs("NAME", "juliet"),
		RunE: ran(func(ctx context.Context, args []string) error {
			u, err := a.openUser(ctx, args[0])
			if err != nil {
				return err
			}
			if err := a.confirmRemoval(ctx, u, forward, yes); err != nil {
				return err
			}
			resp, err := a.client().UserRemove(ctx, admin.UserRemoveRequest{User: u.Address, Forward: forward, DropMessages: drop})
			if err != nil {
				return err
			}
			if forward {
				a.print(resp, "Closed %s; its contacts are told its new address %s. %s logged out.", resp.Address, u.MovedTo, plural(resp.Ended, "device"))
				return nil
			}
			a.print(resp, "Removed %s; %s logged out.", resp.Address, plural(resp.Ended, "device"))
			return nil
		}),
	}
	c.Flags().BoolVar(&forward, "forward", false, "close it and keep telling its contacts where it moved")
	c.Flags().BoolVar(&drop, "drop-messages", false, "remove it although its messages could not come along to its new address")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(c)
}

func (a *app) confirmRemoval(ctx context.Context, u admin.User, forward, yes bool) error {
	if forward && u.State != admin.UserForwarding {
		return admin.Errorf(admin.CodeInvalid, "%s has not announced a move: there is no new address to tell", u.Address).
			Then("Its owner announces the move in a client first; without --forward the account is deleted.")
	}
	last, err := a.lastAdministrator(ctx, u)
	if err != nil {
		return err
	}
	warning := ""
	if last {
		warning = u.Address + " is the last administrator. "
	}
	if yes {
		if last {
			a.say("%sMake another one with 'pibox user add NAME --admin'.", warning)
		}
		return nil
	}
	question := "Delete " + u.Address + " with all contacts and messages? This can not be undone."
	switch {
	case forward && u.Heir != "":
		question = "Close " + u.Address + "? Its messages stay in the archive of " + u.Heir + ". Its contacts are told " + u.MovedTo + ". This can not be undone."
	case forward:
		question = "Close " + u.Address + " and delete its messages? Its contacts are told " + u.MovedTo + ". This can not be undone."
	case u.Heir != "":
		question = "Delete " + u.Address + "? Its messages stay in the archive of " + u.Heir + ". Contacts who have not followed will not be told where it went; with --forward they are. This can not be undone."
	}
	return a.confirm(ctx, warning+question)
}
