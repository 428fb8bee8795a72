package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func userCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "user",
		Short:   "Add, list and remove accounts, change passwords",
		Example: "  pibox user add juliet\n  pibox user list",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return errors.New("'pibox user' needs add, list, passwd or remove")
		},
	}
	c.AddCommand(userAddCmd(a), userListCmd(a), userPasswdCmd(a), userRemoveCmd(a))
	return c
}
