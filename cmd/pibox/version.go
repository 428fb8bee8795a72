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
				"%s", versionText())
			return nil
		}),
	}
	return a.jsonFlag(c)
}

func versionText() string {
	return fmt.Sprintf("pibox %s (%s, %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
