package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func moveBringCmd(a *app) *cobra.Command {
	var req admin.MoveBringRequest
	var stdin, stop bool
	c := &cobra.Command{
		Use:   "bring OLD [NEW]",
		Short: "Bring an account from any other server",
		Long: `Bring an account from any other server, where it moves away from. Its password there is all that is
needed: the box logs in as an app does, takes contacts, profile, avatar, bookmarks, blocks and
archive, announces the move there, and tells the contacts from the new address. NEW is an address of
this box; without it the name stays, at the domain where new accounts are made: --dry-run tells which.

The account is made here, or is an empty one. One that is made has a password of its own, not the old
one: at a terminal you choose it; an empty one, and --password-stdin, makes one up, which is shown
once at the end. 'pibox user passwd' changes it later.

The old password is asked for, is never stored, and is not needed any more afterwards. What takes
long goes on when you leave: the same command shows how it goes. A restart of the box interrupts it:
'pibox move status' tells so, and the same command, with the old password, goes on; nothing comes
twice, and nobody is told twice. Keys of OMEMO stay behind, as they belong to devices.`,
		Example: "  pibox move bring juliet@old.example\n  pibox move bring juliet@old.example julia@family.example\n  pibox move bring juliet@old.example --dry-run",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return needsTwo("OLD, and NEW where the name changes", "juliet@old.example julia@family.example")(c, args)
		},
		RunE: ran(func(ctx context.Context, args []string) error {
			req.Old, req.New, _ = strings.Cut(args[0], "@")
			req.Old, req.New = args[0], req.Old
			if len(args) > 1 {
				req.New = args[1]
			}
			if done, err := a.attach(ctx, "bring", req.Old, req.New, stop); done || err != nil {
				return err
			}
			resp, err := a.bring(ctx, &req, stdin)
			if err != nil {
				return err
			}
			if req.DryRun {
				a.print(resp, "%s lets this box in, and has %s. It would come as %s. Nothing was changed.",
					resp.Migration.Old, plural(resp.Migration.Counts.Contacts, "contact"), resp.Migration.New)
				return nil
			}
			return a.follow(ctx, resp.Migration)
		}),
	}
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the old password from the first line of standard input")
	c.Flags().StringVar(&req.Server, "server", "", "`host:port` of the old server, where its name alone does not lead there")
	c.Flags().BoolVar(&req.DirectTLS, "direct-tls", false, "TLS begins with the first byte at --server")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "only log in there and count the contacts")
	c.Flags().BoolVar(&req.Unverified, "unverified", false, "start the move also where the old server can not announce it: every contact has to approve")
	c.Flags().BoolVar(&stop, "stop", false, "stop bringing it")
	return a.jsonFlag(c)
}

// bring begins it. Nobody is asked for a password that is not needed, or for nothing.
func (a *app) bring(ctx context.Context, req *admin.MoveBringRequest, stdin bool) (admin.MigrationResponse, error) {
	resp, err := a.client().MoveBring(ctx, *req)
	var missing *admin.Error
	if !errors.As(err, &missing) || missing.Code != admin.CodePassword {
		return resp, err
	}
	if missing.Account != "" {
		req.New = missing.Account
	}
	if err := a.bringPasswords(ctx, req, stdin); err != nil {
		return resp, err
	}
	return a.client().MoveBring(ctx, *req)
}

// bringPasswords asks for the old one, and for one of an account that is made.
func (a *app) bringPasswords(ctx context.Context, req *admin.MoveBringRequest, stdin bool) (err error) {
	_, none := a.client().UserGet(ctx, admin.UserGetRequest{User: req.New}) // one that is there keeps its own
	switch {
	case a.json || req.DryRun:
	case none != nil:
		a.say("%s comes as %s, an account that is made now, with a password of its own.", req.Old, req.New)
	default:
		a.say("%s comes as %s.", req.Old, req.New)
	}
	if req.OldPassword, err = a.otherPassword(ctx, req.Old, stdin); err != nil {
		return err
	}
	if _, terminal := a.terminal(); !terminal || stdin || req.DryRun || none == nil {
		return nil
	}
	pw, err := a.password(ctx, passwordFlags{}, "Password for "+req.New+" here")
	if err == nil && !pw.made {
		req.Password = pw.text
	}
	return err
}

// otherPassword is that of an account at another server.
func (a *app) otherPassword(ctx context.Context, account string, stdin bool) (text string, err error) {
	fd, terminal := a.terminal()
	switch {
	case stdin:
		text, err = a.line()
	case terminal:
		text, err = a.hidden(ctx, fd, "Password of "+account+" there: ")
	default:
		return "", usageError{"the password of " + account + " is asked for: run this at a terminal, or with --password-stdin"}
	}
	if err == nil && text == "" {
		err = usageError{"without the password of " + account + " nothing can be done there"}
	}
	return text, err
}
