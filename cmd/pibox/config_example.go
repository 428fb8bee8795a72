package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/config"
)

func configExampleCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print a configuration file with every key, its meaning and its default",
		Example: "  pibox config example > pibox.toml",
		Args:    cobra.NoArgs,
		RunE:    ran(func(context.Context, []string) error { return config.Example(a.out) }),
	}
}
