package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func moveStatusCmd(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "status [NEW]",
		Short: "Show how moves go, contact by contact",
		Long: `Show how moves go, contact by contact. NEW is the new address of one move, or the new domain of a
family. Without it every move that has not ended is shown, with --all every one.`,
		Example: "  pibox move status\n  pibox move status juliet@new.example\n  pibox move status --all --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			var req admin.MoveStatusRequest
			if len(args) > 0 {
				req.New = args[0]
			}
			resp, err := a.client().MoveStatus(ctx, req)
			if err != nil {
				return err
			}
			if req.New == "" && !all {
				resp.Moves = current(resp.Moves)
			}
			return a.printMoves(resp, all)
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "also those that have ended")
	return a.jsonFlag(c)
}

// current are the moves that somebody may want to look at: they go on, or the old account still forwards.
func current(all []admin.Move) []admin.Move {
	list := []admin.Move{}
	for _, mv := range all {
		if mv.State == "planned" || mv.State == "running" || mv.State == "cancelled" || !mv.ForwardsUntil.IsZero() {
			list = append(list, mv)
		}
	}
	return list
}

func (a *app) printMoves(resp admin.MoveStatusResponse, all bool) error {
	if a.json {
		a.printJSONTo(a.out, resp)
		return nil
	}
	if len(resp.Moves) == 0 {
		text := "Nobody moves."
		if !all {
			text += " 'pibox move status --all' shows moves that have ended."
		}
		a.say("%s", text)
		return nil
	}
	for i, mv := range resp.Moves {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		if err := a.printMove(mv); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printMove(mv admin.Move) error {
	state := mv.State
	if mv.Held {
		state += ", held: nothing is sent before the owner of this restored box confirms that the old one is gone"
	}
	fmt.Fprintf(a.out, "%s -> %s: %s\n", mv.Old, mv.New, state)
	if mv.Unverified {
		fmt.Fprintln(a.out, "  The old address is not known to announce the move: everybody has to approve.")
	}
	if mv.Session != nil {
		fmt.Fprintf(a.out, "  %s\n", sessionLine(*mv.Session))
	}
	if mv.ArchiveStays && !mv.Closed {
		fmt.Fprintf(a.out, "  %s\n", archiveStays(mv.Old, mv.New))
	}
	if line := a.forwarding(mv); line != "" {
		fmt.Fprintf(a.out, "  %s\n", line)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, c := range mv.Contacts {
		since := ""
		if !c.Since.IsZero() {
			since = ago(a.now(), c.Since)
		}
		change := words(c.Was) + " -> " + words(c.Now)
		if mv.Outside { // the other server knows
			change = words(c.Was)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", c.Address, change, c.State, since, c.Detail)
	}
	return w.Flush()
}

func words(subscription string) string {
	if subscription == "" {
		return "-"
	}
	return subscription
}

// forwarding is the countdown of the old account.
func (a *app) forwarding(mv admin.Move) string {
	switch left := mv.ForwardsUntil.Sub(a.now()); {
	case mv.Closed:
		return mv.Old + " is closed, and tells its contacts where it went."
	case mv.ForwardsUntil.IsZero():
		return ""
	case left > 0:
		days := int((left + 24*time.Hour - 1) / (24 * time.Hour))
		next := "then 'pibox move close " + mv.Old + "' closes it."
		if mv.ThenClose && !mv.ArchiveStays {
			next = "then it closes by itself."
		}
		return fmt.Sprintf("%s forwards until %s, %s more; %s", mv.Old, mv.ForwardsUntil.Format(time.DateOnly), plural(days, "day"), next)
	}
	return fmt.Sprintf("%s has forwarded for long enough: 'pibox move close %s' closes it.", mv.Old, mv.Old)
}
