package main

import (
	"context"

	"github.com/spf13/cobra"

	"pibox/internal/config"
)

func serveCmd(a *app) *cobra.Command {
	var domains []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until it is interrupted (SIGINT, SIGTERM).

Without a configuration file it serves the name of this machine under .local, with a family
certificate authority of its own.`,
		Example: "  pibox serve\n  pibox serve --domain family.example --data-dir ./data",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			cfg, err := a.checked()
			if err != nil {
				return err
			}
			if len(domains) > 0 {
				if cfg.Domains, err = config.CanonicalDomains(domains); err != nil {
					return usageError{"--domain: " + err.Error()}
				}
			}
			return a.program.Serve(ctx, cfg, a.out)
		}),
	}
	c.Flags().StringSliceVar(&domains, "domain", nil, "`domain` to serve, in place of domains in the file; can be repeated")
	return c
}
