package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func moveCancelCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "cancel NEW",
		Short: "Stop telling contacts of a move",
		Long: `Stop telling contacts of a move. Who was reached already may still follow; nobody else is told.
'pibox move start' goes on later. To take the move back, use 'pibox move undo'.`,
		Example: "  pibox move cancel juliet@new.example\n  pibox move cancel new.example",
		Args:    needs("NEW", "juliet@new.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			resp, err := a.client().MoveCancel(ctx, admin.MoveCancelRequest{New: args[0]})
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			for _, s := range resp.Stopped {
				fmt.Fprintf(a.out, "Stopped %s -> %s. Followed: %d. Asked already, and may still answer: %d. Not told: %d.\n",
					s.Old, s.New, len(s.Followed), len(s.Asked), len(s.Stopped))
			}
			return nil
		}),
	}
	return a.jsonFlag(c)
}

func moveUndoCmd(a *app) *cobra.Command {
	var req admin.MoveUndoRequest
	var yes, there, stdin bool
	c := &cobra.Command{
		Use:   "undo NEW",
		Short: "Take a move back from contacts who have not followed",
		Long: `Take a move back: what contacts were asked and have not answered is withdrawn, the contacts that the
move brought leave the new contact list, and the old address announces no move any more. Contacts
who followed already hold the new address; that stays. The new account is not deleted. Of a move to
another server ('pibox move leave') it names who may have been asked from there; with --there the box
logs in there, asks for the password of NEW, never stores it, and takes that back, too. Where that
did not come to its end, the same command goes on.`,
		Example: "  pibox move undo juliet@new.example\n  pibox move undo new.example --yes\n  pibox move undo juliet@elsewhere.example --there",
		Args:    needs("NEW", "juliet@new.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			if !yes {
				if err := a.confirm(ctx, "Take the move to "+args[0]+" back from everybody who has not followed?"); err != nil {
					return err
				}
			}
			req.New = args[0]
			if there || stdin {
				var err error
				if req.Password, err = a.otherPassword(ctx, req.New, stdin); err != nil {
					return err
				}
			}
			resp, err := a.client().MoveUndo(ctx, req)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			for _, s := range resp.Undone {
				a.tellUndone(s)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&there, "there", false, "also at another server, where NEW is; its password is asked for")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "the same, with the password of NEW from the first line of standard input")
	c.Flags().StringVar(&req.Server, "server", "", "`host:port` of that server, where its name alone does not lead there")
	c.Flags().BoolVar(&req.DirectTLS, "direct-tls", false, "TLS begins with the first byte at --server")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(c)
}

func (a *app) tellUndone(s admin.MoveStopped) {
	fmt.Fprintf(a.out, "Took %s -> %s back from %s.\n", s.Old, s.New, plural(len(s.Stopped), "contact"))
	if len(s.Followed) > 0 {
		fmt.Fprintf(a.out, "  These followed already and hold %s: %s.\n", s.New, strings.Join(s.Followed, ", "))
	}
	switch {
	case s.Unnoted:
		fmt.Fprintf(a.out, "  At %s nothing was taken back: this move was begun by an earlier version of pibox, which did not note what it did there. Remove these from the contact list there, which withdraws what they were asked; who was there before the move may stay: %s.\n",
			s.New, strings.Join(s.There, ", "))
	case s.TakenThere == nil && len(s.There) > 0:
		fmt.Fprintf(a.out, "  This box can not take back what was done at %s without its password (--there): remove these from the contact list there, which withdraws what they were asked: %s.\n",
			s.New, strings.Join(s.There, ", "))
	case s.TakenThere != nil:
		fmt.Fprintf(a.out, "  At %s it was taken back from %s.\n", s.New, plural(len(s.TakenThere), "contact"))
		if len(s.There) > 0 {
			fmt.Fprintf(a.out, "  These stay on the contact list there, because they follow already, or its server keeps them: %s.\n", strings.Join(s.There, ", "))
		}
	}
	if s.Statement == "elsewhere" {
		fmt.Fprintf(a.out, "  %s may still announce the move: take that back there, with its owner's client.\n", s.Old)
	}
}

func moveCloseCmd(a *app) *cobra.Command {
	var req admin.MoveCloseRequest
	var yes bool
	c := &cobra.Command{
		Use:   "close OLD",
		Short: "Close an old account, so that it only tells where it went",
		Long: `Close an old account of this box, or all of a domain that are due: nobody logs in any more, its
devices get nothing more, and its contacts are told the new address when they ask. Its name is never
given again. That is done when it has forwarded for 90 days, or as long as the configuration
says; --now does not wait, and whoever has not followed has to be told by hand.

What is in its archive stays in that of its new address on this box. Where it could not come along,
nothing is closed without --drop-messages.`,
		Example: "  pibox move close juliet@old.example\n  pibox move close old.example\n  pibox move close juliet@old.example --now",
		Args:    needs("OLD", "juliet@old.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			req.Old = args[0]
			if !yes {
				warning := ""
				if req.Now {
					warning = "Contacts who have not followed yet may lose you. "
				}
				if err := a.confirm(ctx, warning+"Close "+req.Old+"? What is in no other archive is deleted. This can not be undone."); err != nil {
					return err
				}
			}
			resp, err := a.client().MoveClose(ctx, req)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			for _, x := range resp.Closed {
				fmt.Fprintf(a.out, "Closed %s; its contacts are told its new address %s. %s logged out.\n", x.Address, x.MovedTo, plural(x.Ended, "device"))
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&req.DropMessages, "drop-messages", false, "close it although its messages could not come along to its new address")
	c.Flags().BoolVar(&req.Now, "now", false, "do not wait until it has forwarded for long enough")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.jsonFlag(c)
}
