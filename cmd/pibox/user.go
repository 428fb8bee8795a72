package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "user",
		Short:   "Add, list and remove accounts, change passwords and push",
		Example: "  pibox user add juliet\n  pibox user list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return errors.New("'pibox user' needs add, list, passwd, push or remove")
		},
	}
	c.AddCommand(userAddCmd(a), userListCmd(a), userPasswdCmd(a), userPushCmd(a), userRemoveCmd(a))
	return c
}

// openUser finds an account that is to be changed, before anything is asked.
func (a *app) openUser(ctx context.Context, name string) (admin.User, error) {
	resp, err := a.client().UserGet(ctx, admin.UserGetRequest{User: name})
	if err == nil && resp.User.State == admin.UserClosed {
		return resp.User, admin.Errorf(admin.CodeInvalid, "%s is closed: nobody can log in to it any more, and its name and new address are kept for good", resp.User.Address)
	}
	return resp.User, err
}

// lastAdministrator tells whether no other account is an administrator's.
func (a *app) lastAdministrator(ctx context.Context, u admin.User) (bool, error) {
	if !u.Admin {
		return false, nil
	}
	list, err := a.client().UserList(ctx, admin.UserListRequest{})
	if err != nil {
		return false, err
	}
	for _, other := range list.Users {
		if other.Admin && other.Address != u.Address && other.State == admin.UserActive {
			return false, nil
		}
	}
	return true, nil
}
