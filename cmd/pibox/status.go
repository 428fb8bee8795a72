package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

// stateFailing is the health state in which the box serves nobody.
const stateFailing = "failing"

func statusCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the box is",
		Long: `Tell how the box is: the same state that its LED and systemd show.

Exits with 0 while the server serves, with 1 when it is failing, with 3 when it does not run.`,
		Example: "  pibox status\n  pibox status --json | jq .state",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			s, err := a.client().Status(ctx, admin.StatusRequest{})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, s)
			} else if err := a.printStatus(s); err != nil {
				return err
			}
			if s.State == stateFailing {
				return silentError{exitFailed}
			}
			return nil
		}),
	}
	return a.jsonFlag(c)
}

func (a *app) printStatus(s admin.StatusResponse) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+":\t"+format+"\n", args...) }
	row("State", "%s for %s", s.State, ago(a.now(), s.Since))
	for _, r := range s.Reasons {
		fmt.Fprintf(w, "\t%s\n", r)
	}
	row("Version", "%s, process %d, running for %s", s.Version, s.PID, ago(a.now(), s.Started))
	row("Domains", "%s", strings.Join(s.Domains, ", "))
	for _, l := range s.Listeners {
		row(l.Service, "%s", l.Address)
	}
	for _, c := range s.Certificates {
		row("TLS", "certificate of %s, until %s", c.Domain, c.Expires.Format(time.DateOnly))
		fmt.Fprintf(w, "\tSHA-256 %s\n", c.SHA256)
	}
	row("Accounts", "%d, %s connected", s.Users, plural(s.Sessions, "device"))
	row("Servers", "%d in, %d out, %s waiting", s.ServersIn, s.ServersOut, plural(s.Queued, "stanza"))
	row("Database", "%s, schema %d, %s, %s free on its disk", s.Store.Path, s.Store.Schema, size(s.Store.Size), size(s.Store.Free))
	row("Memory", "%s", size(s.Memory))
	return w.Flush()
}
