package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userListCmd(a *app) *cobra.Command {
	var domain string
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the accounts",
		Example: "  pibox user list\n  pibox user list --domain family.example --json",
		Args:    cobra.NoArgs,
		RunE: ran(func(ctx context.Context, _ []string) error {
			resp, err := a.client().UserList(ctx, admin.UserListRequest{Domain: domain})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			if len(resp.Users) == 0 {
				a.say("There are no accounts yet. 'pibox user add NAME' makes one.")
				return nil
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ADDRESS\tSTATE\tDEVICES\tLAST SEEN")
			for _, u := range resp.Users {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", u.Address, a.state(u), u.Resources, a.lastSeen(u))
			}
			return w.Flush()
		}),
	}
	c.Flags().StringVar(&domain, "domain", "", "only accounts of this `domain`")
	return a.jsonFlag(c)
}

func (a *app) state(u admin.User) string {
	text := string(u.State)
	if u.Admin {
		text += ", admin"
	}
	if u.Restricted {
		text += ", restricted"
	}
	if u.MovedTo != "" {
		text += fmt.Sprintf(", moved to %s (%d of %s followed)", u.MovedTo, u.ContactsLeft, plural(u.Contacts, "contact"))
	}
	return text
}

func (a *app) lastSeen(u admin.User) string {
	switch {
	case u.Resources > 0:
		return "now"
	case u.LastSeen.IsZero():
		return "never"
	}
	return ago(a.now(), u.LastSeen) + " ago"
}
