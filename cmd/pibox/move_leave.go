package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func moveLeaveCmd(a *app) *cobra.Command {
	var req admin.MoveLeaveRequest
	var stdin, drive, stop bool
	var wait time.Duration
	c := &cobra.Command{
		Use:   "leave LOCAL NEW",
		Short: "Move an account of this box to another server",
		Long: `Move an account of this box to another server. LOCAL announces that it moves to NEW, and goes on
receiving messages until you close it ('pibox move close').

With --build the box logs in to NEW, whose password it asks for and never stores, puts profile,
avatar, bookmarks and blocks there as far as that server lets an app do so, and tells the contacts
from there. Without it an app at NEW does that. What no server takes from an app, such as the
archive, is in the file of 'pibox export'.`,
		Example: "  pibox export juliet --output juliet.xml\n  pibox move leave juliet juliet@elsewhere.example --build",
		Args:    needsTwo("LOCAL and NEW", "juliet juliet@elsewhere.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			req.Account, req.New, req.Wait = args[0], args[1], int(wait/time.Second)
			if done, err := a.attach(ctx, "leave", req.Account, req.New, stop); done || err != nil {
				return err
			}
			if drive || stdin {
				var err error
				if req.Password, err = a.otherPassword(ctx, req.New, stdin); err != nil {
					return err
				}
			}
			resp, err := a.client().MoveLeave(ctx, req)
			if err != nil {
				return err
			}
			if req.Password == "" {
				a.print(resp, "%s announces that it moves to %s. Now tell the contacts from there: with an app that can move accounts, or with --build.", resp.Migration.Old, resp.Migration.New)
				return nil
			}
			return a.follow(ctx, resp.Migration)
		}),
	}
	c.Flags().BoolVar(&drive, "build", false, "build up NEW and tell the contacts from there; its password is asked for")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "the same, with the password of NEW from the first line of standard input")
	c.Flags().StringVar(&req.Server, "server", "", "`host:port` of the new server, where its name alone does not lead there")
	c.Flags().BoolVar(&req.DirectTLS, "direct-tls", false, "TLS begins with the first byte at --server")
	c.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how `long` NEW stays connected for contacts who have to ask first, where its server can not approve them in advance")
	c.Flags().BoolVar(&stop, "stop", false, "stop telling the contacts")
	return a.jsonFlag(c)
}
