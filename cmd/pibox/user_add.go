package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userAddCmd(a *app) *cobra.Command {
	var from passwordFlags
	var isAdmin, restricted bool
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Make an account",
		Long: `Make an account. NAME is an address, or its part before the @ for one at the main domain, or
at that to which the family moved from there.

At a terminal the password is asked for; an empty one, and any other case without
--password-stdin, makes a random one that is shown once.`,
		Example: "  pibox user add juliet\n  pibox user add juliet@family.example --generate --json\n  pass show juliet | pibox user add juliet --password-stdin",
		Args:    needs("NAME", "juliet"),
		RunE: ran(func(ctx context.Context, args []string) error {
			if err := from.check(); err != nil {
				return err
			}
			if err := a.freeName(ctx, args[0]); err != nil {
				return err
			}
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
	c.Flags().BoolVar(&isAdmin, "admin", false, "mark the account as an administrator's (a mark only, so far: whoever may use the admin socket administers)")
	c.Flags().BoolVar(&restricted, "restricted", false, "may not announce that the account moves, such as a child's")
	return a.jsonFlag(c)
}

// freeName finds what keeps an account from being made before a password is asked for.
func (a *app) freeName(ctx context.Context, name string) error {
	resp, err := a.client().UserGet(ctx, admin.UserGetRequest{User: name})
	var known *admin.Error
	switch {
	case errors.As(err, &known) && known.Code == admin.CodeNotFound: // or a domain that is not ours, which UserAdd tells
		return nil
	case err != nil:
		return err
	case resp.User.State == admin.UserClosed:
		return admin.Errorf(admin.CodeExists, "%s is closed, and its name stays with its former owner for good", resp.User.Address).Then("Choose another name.")
	}
	return admin.Errorf(admin.CodeExists, "%s is there already", resp.User.Address).Then("'pibox user passwd' gives it another password.")
}
