package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func userPushCmd(a *app) *cobra.Command {
	var sender, body string
	c := &cobra.Command{
		Use:   "push NAME",
		Short: "Show or set what push services are told about an account's messages",
		Long: `Show or set what push services are told about an account's messages.

Push services wake the apps of devices that have no connection. They belong to the
makers of the apps, and are told how many messages came. Whether they are told who
wrote the last one, and what, is said here, or for all accounts in the configuration.`,
		Example: "  pibox user push juliet\n  pibox user push juliet --sender yes --body no",
		Args:    needs("NAME", "juliet"),
		RunE: ran(func(ctx context.Context, args []string) error {
			for _, v := range []string{sender, body} {
				switch admin.PushContent(v) {
				case "", admin.PushYes, admin.PushNo, admin.PushDefault:
				default:
					return usageError{fmt.Sprintf("%q is not yes, no or default", v)}
				}
			}
			resp, err := a.client().UserPush(ctx, admin.UserPushRequest{User: args[0], Sender: admin.PushContent(sender), Body: admin.PushContent(body)})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			return a.showPush(resp)
		}),
	}
	c.Flags().StringVar(&sender, "sender", "", "tell who wrote the last message: `yes`, no, or default, which is as the configuration says")
	c.Flags().StringVar(&body, "body", "", "tell what it says: `yes`, no or default")
	return a.jsonFlag(c)
}

func (a *app) showPush(resp admin.UserPushResponse) error {
	what := "how many messages came"
	if resp.Sender {
		what += ", who wrote the last one"
	}
	if resp.Body {
		what += ", what it says"
	}
	fmt.Fprintf(a.out, "Push services of %s are told: %s.\n", resp.Address, what)
	if len(resp.Services) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tDEVICE\tENABLED\tSTATE")
	for _, s := range resp.Services {
		state := "well"
		if !s.Failing.IsZero() {
			state = "not reached for " + ago(a.now(), s.Failing)
		}
		fmt.Fprintf(w, "%s\t%s\t%s ago\t%s\n", s.Service, s.Device, ago(a.now(), s.Enabled), state)
	}
	return w.Flush()
}
