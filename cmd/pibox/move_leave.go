package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

const leaveLong = `Move an account of this box to another server, where NEW exists already. In this order:

 1. With --export FILE everything in the account is written into a file first, as 'pibox export' does:
    the archive, too, which no server takes from an app. Who runs the other server can import it.
 2. LOCAL announces that it moves to NEW. Contacts who only see LOCAL are told by a message from it.
 3. With --build the box logs in to NEW, whose password it asks for and never stores, puts profile,
    avatar, bookmarks and blocks there as far as that server lets an app do so, and tells the contacts
    from there. Without it that is yours to do, with an app at NEW. 'pibox move status NEW' shows who
    has followed.
 4. LOCAL forwards: it goes on receiving messages, for 90 days or as the configuration says, and
    'pibox move status NEW' counts them down. The same command, later, tells contacts who came since.
 5. 'pibox move close LOCAL' closes it then; it only tells where it went.

A family leaves with this command for each, in any order: members who leave within an hour, with
--build, find each other at their new addresses. For those who leave later, repeat it for the others.

'pibox move undo NEW' takes the announcement back until then, and names who was asked from NEW.`

func moveLeaveCmd(a *app) *cobra.Command {
	var req admin.MoveLeaveRequest
	var stdin, drive, stop bool
	var wait time.Duration
	var to exportTo
	c := &cobra.Command{
		Use:     "leave LOCAL NEW",
		Short:   "Move an account of this box to another server",
		Long:    leaveLong,
		Example: "  pibox move leave juliet juliet@elsewhere.example --export juliet.xml --build\n  pibox move status juliet@elsewhere.example\n  pibox move close juliet",
		Args:    needsTwo("LOCAL and NEW", "juliet juliet@elsewhere.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			if to.force && to.file == "" {
				return usageError{"--force is for the file of --export"}
			}
			req.Account, req.New, req.Wait = args[0], args[1], int(wait/time.Second)
			if done, err := a.attach(ctx, "leave", req.Account, req.New, stop); done || err != nil {
				return err
			}
			if err := a.mayLeave(ctx, &req, to, drive || stdin, stdin); err != nil {
				return err
			}
			if to.file != "" {
				if err := a.leaveFile(ctx, req.Account, to); err != nil {
					return err
				}
			}
			resp, err := a.client().MoveLeave(ctx, req)
			if err != nil {
				return err
			}
			if req.Password == "" {
				if at := resp.Migration.Before; !at.IsZero() {
					a.say("That was started already, on %s. 'pibox move status %s' shows how it goes.", at.Local().Format(time.DateTime), resp.Migration.New)
				}
				a.print(resp, leaveByHand, resp.Migration.Old, resp.Migration.New)
				return nil
			}
			return a.follow(ctx, resp.Migration)
		}),
	}
	c.Flags().StringVar(&to.file, "export", "", "`file` to write everything in the account into, before anything is announced")
	c.Flags().BoolVar(&to.force, "force", false, "replace the file of --export if it is there")
	c.Flags().BoolVar(&drive, "build", false, "build up NEW and tell the contacts from there; its password is asked for")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "the same, with the password of NEW from the first line of standard input")
	c.Flags().StringVar(&req.Server, "server", "", "`host:port` of the new server, where its name alone does not lead there")
	c.Flags().BoolVar(&req.DirectTLS, "direct-tls", false, "TLS begins with the first byte at --server")
	c.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how `long` NEW stays connected for contacts who have to ask first, where its server can not approve them in advance")
	c.Flags().BoolVar(&stop, "stop", false, "stop telling the contacts")
	return a.jsonFlag(c)
}

// leaveByHand is what is left to do where the box is not to log in at the new address.
const leaveByHand = `%[1]s announces that it moves to %[2]s, and forwards from now on. What is left to do at %[2]s:
  - Log in there with an app that can move accounts, and let it tell the contacts; or run this again with --build.
  - Or, where it is a pibox to which the account was imported, 'pibox move start %[1]s %[2]s' there.
  - Or add each contact by hand: 'pibox move status %[2]s' names them, and shows who has followed.
Then, when the forwarding is over, 'pibox move close %[1]s' closes it.`

// mayLeave finds what would fail before anything is asked, and, with the password, before anything is written into a file.
func (a *app) mayLeave(ctx context.Context, req *admin.MoveLeaveRequest, to exportTo, drive, stdin bool) error {
	if to.file == "-" {
		return usageError{"--export names a file; for standard output use 'pibox export'"}
	}
	look := *req
	look.DryRun = true
	if _, err := a.client().MoveLeave(ctx, look); err != nil {
		return err
	}
	if err := a.exportFits(to); err != nil || !drive {
		return err
	}
	var err error
	if req.Password, err = a.otherPassword(ctx, req.New, stdin); err != nil || to.file == "" {
		return err
	}
	look.Password = req.Password
	_, err = a.client().MoveLeave(ctx, look)
	return err
}

// leaveFile writes the account into a file, as 'pibox export' does.
func (a *app) leaveFile(ctx context.Context, account string, to exportTo) error {
	result, err := a.exportTo(ctx, admin.ExportRequest{Users: []string{account}}, to)
	if err != nil {
		return err
	}
	a.say("Wrote %s (%s). It holds the keys of the password, and messages in the clear: keep it safe.", result.File, size(result.Size))
	a.tellLosses("Left out", result.Losses)
	return nil
}
