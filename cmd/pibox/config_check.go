package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/config"
)

func configCheckCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Tell all mistakes in the configuration file",
		Long: `Tell all mistakes in the configuration file at once, each with its line and key. Files that it
names, such as certificates, are read as the user who runs the command.

Exits with 0 where the server would start with the file, with 2 where it would not.`,
		Example: "  pibox config check\n  pibox config check ./pibox.toml --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: ran(func(_ context.Context, args []string) error {
			if len(args) > 0 {
				if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
					return admin.Errorf(admin.CodeNotFound, "%s: there is no such file", args[0]).Then("'pibox config example' prints one to start from.")
				}
				a.configFile = args[0]
			}
			_, problems := a.load()
			if a.json {
				a.printJSONTo(a.out, struct {
					File     string          `json:"file"`
					Problems config.Problems `json:"problems"`
				}{a.file(), append(config.Problems{}, problems...)})
				if len(problems.Mistakes()) > 0 {
					return silentError{exitUsage}
				}
				return nil
			}
			if err := problems.Err(); err != nil {
				return err
			}
			for _, warning := range problems {
				a.say("%s", warning)
			}
			if a.file() == "" {
				a.print(nil, "There is no configuration file: the defaults are in force. 'pibox config example' prints them.")
				return nil
			}
			a.print(nil, "%s has no mistakes.", a.file())
			return nil
		}),
	}
	return a.jsonFlag(c)
}
