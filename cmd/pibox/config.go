package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func configCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "config",
		Short:   "Check the configuration file, or print one to start from",
		Example: "  pibox config check\n  pibox config example",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("'pibox config' needs check or example")
		},
	}
	c.AddCommand(configCheckCmd(a), configExampleCmd(a))
	return c
}
