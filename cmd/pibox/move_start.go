package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func moveStartCmd(a *app) *cobra.Command {
	var req admin.MoveStartRequest
	var dry bool
	c := &cobra.Command{
		Use:   "start OLD NEW",
		Short: "Move one account",
		Long: `Move one account. Where OLD and NEW are both on this box, the new account is made with the same
password if there is none, OLD announces the move, and the contacts are told. Where OLD is
elsewhere, its contacts have to be known: by 'pibox move bring' or 'pibox import'.

Started again it changes nothing; after 'pibox move cancel' it goes on.`,
		Example: "  pibox move start juliet@old.example juliet@new.example --dry-run\n  pibox move start juliet@old.example juliet@new.example",
		Args:    needsTwo("OLD and NEW", "juliet@old.example juliet@new.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			req.Old, req.New = args[0], args[1]
			if dry {
				return a.showPlan(ctx, req.Old, req.New)
			}
			resp, err := a.client().MoveStart(ctx, req)
			if err != nil {
				return err
			}
			a.print(resp, "%s 'pibox move status %s' shows how it goes.", startedLine(resp.Move), resp.Move.New)
			return nil
		}),
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only show the plan")
	c.Flags().BoolVar(&req.Unverified, "unverified", false, "start although OLD is not known to announce the move: every contact has to approve")
	c.Flags().BoolVar(&req.ThenClose, "then-close", false, "close OLD by itself when it has forwarded for long enough")
	return a.jsonFlag(c)
}

func moveFamilyCmd(a *app) *cobra.Command {
	var req admin.MoveFamilyRequest
	var dry bool
	c := &cobra.Command{
		Use:   "family OLDDOMAIN NEWDOMAIN",
		Short: "Move everybody to another domain of this box",
		Long: `Move everybody from one domain of this box to another one. Both have to be among the domains of the
configuration, and stay there until the old accounts are closed. New accounts get the same names and
passwords; members find each other at their new addresses at once.`,
		Example: "  pibox move family old.example new.example --dry-run\n  pibox move family old.example new.example",
		Args:    needsTwo("OLDDOMAIN and NEWDOMAIN", "old.example new.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			req.OldDomain, req.NewDomain = args[0], args[1]
			if dry {
				return a.showPlan(ctx, req.OldDomain, req.NewDomain)
			}
			resp, err := a.client().MoveFamily(ctx, req)
			if err != nil {
				return err
			}
			if a.json {
				a.printJSONTo(a.out, resp)
				return nil
			}
			for _, mv := range resp.Moves {
				fmt.Fprintln(a.out, startedLine(mv))
			}
			for _, s := range resp.Staying {
				fmt.Fprintf(a.out, "%s stays: %s.\n", s.Address, s.Why)
			}
			fmt.Fprintf(a.out, "They log in at the new addresses with their passwords. 'pibox move status %s' shows how it goes.\n", req.NewDomain)
			return nil
		}),
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only show the plan")
	c.Flags().BoolVar(&req.Merge, "merge", false, "move also into accounts that are at the new domain already, and belong to the same people")
	c.Flags().BoolVar(&req.ThenClose, "then-close", false, "close the old accounts by themselves when they have forwarded for long enough (their messages are deleted then)")
	return a.jsonFlag(c)
}

// startedLine tells of a move that was to be started.
func startedLine(mv admin.Move) string {
	what := plural(len(mv.Contacts), "contact")
	if !mv.Before.IsZero() {
		what = "that was started already, on " + mv.Before.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("%s moves to %s: %s.", mv.Old, mv.New, what)
}
