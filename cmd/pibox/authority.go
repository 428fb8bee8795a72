package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func authorityCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "authority",
		Short: "Print the family's certificate authority",
		Long: `Print the certificate of the family's own authority in PEM form. It is public: a device that
trusts it does not ask about the box's certificate, and believes it for the box's domains alone.`,
		Example: "  pibox authority > family.pem\n  pibox authority --json | jq -r .sha256",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			resp, err := a.client().Authority(ctx, admin.AuthorityRequest{})
			if err != nil {
				return err
			}
			a.print(resp, "%s", strings.TrimSpace(resp.PEM))
			return nil
		}),
	}
	return a.jsonFlag(c)
}
