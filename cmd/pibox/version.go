package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  pibox version --json",
		Args:    cobra.NoArgs,
		RunE: ran(func(context.Context, []string) error {
			a.print(map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH},
				"pibox version %s", versionWords())
			return nil
		}),
	}
	return a.jsonFlag(c)
}

func versionWords() string {
	return fmt.Sprintf("%s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
