package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
)

func movePlanCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "plan OLD NEW",
		Short: "Show what a move would do, and change nothing",
		Long: `Show what a move would do, contact by contact: who follows without being asked, who has to approve, who can
not be reached now and why. Other servers are asked now, which may take a minute. Nothing is changed.

OLD and NEW are two addresses, or two domains of this box for everybody there.`,
		Example: "  pibox move plan juliet@old.example juliet@new.example\n  pibox move plan old.example new.example",
		Args:    needsTwo("OLD and NEW", "juliet@old.example juliet@new.example"),
		RunE: ran(func(ctx context.Context, args []string) error {
			return a.showPlan(ctx, args[0], args[1])
		}),
	}
	return a.jsonFlag(c)
}

func (a *app) showPlan(ctx context.Context, old, new string) error {
	resp, err := a.client().MovePlan(ctx, admin.MovePlanRequest{Old: old, New: new})
	if err != nil {
		return err
	}
	if a.json {
		a.printJSONTo(a.out, resp)
		return nil
	}
	for i, p := range resp.Plans {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		if err := a.printPlan(p); err != nil {
			return err
		}
	}
	for _, s := range resp.Staying {
		fmt.Fprintf(a.out, "\n%s stays: %s.\n", s.Address, s.Why)
	}
	begin := "family " + old + " " + new
	switch {
	case len(resp.Plans) == 1 && resp.Plans[0].Outside:
		begin = "leave " + old + " " + new + " --build"
	case strings.Contains(old, "@") || !strings.Contains(old, "."):
		begin = "start " + old + " " + new
	}
	a.say("Nothing was changed. 'pibox move %s' begins.", begin)
	return nil
}

func (a *app) printPlan(p admin.MovePlan) error {
	fmt.Fprintf(a.out, "%s -> %s: %s\n", p.Old, p.New, plural(len(p.Contacts), "contact"))
	if p.Exists {
		fmt.Fprintf(a.out, "  %s is there already: its own contacts stay as they are.\n", p.New)
	}
	if !p.Announced {
		fmt.Fprintf(a.out, "  %s is not known to announce the move: until it does, everybody has to approve.\n", p.Old)
	}
	if p.ArchiveStays {
		fmt.Fprintf(a.out, "  %s\n", archiveStays(p.Old, p.New))
	}
	count := map[string]int{}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, c := range p.Contacts {
		count[c.Prospect]++
		why := c.Why
		if c.Request {
			why = strings.TrimPrefix(why+"; their request waits and comes along", "; ")
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", c.Address, c.Was, c.Prospect, why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var sum []string
	for _, what := range slices.Sorted(maps.Keys(count)) {
		sum = append(sum, fmt.Sprintf("%d %s", count[what], prospect(what, count[what])))
	}
	if len(sum) > 0 {
		fmt.Fprintf(a.out, "  %s.\n", strings.Join(sum, ", "))
	}
	return nil
}

// archiveStays is for who would lose the messages when the old account is closed.
func archiveStays(old, new string) string {
	return fmt.Sprintf("The messages of %s stay there: some were imported, and are older than messages of %s that came before. 'pibox export %s' saves them.", old, new, old)
}

// prospect is a word of a plan as a person says it of so many.
func prospect(what string, n int) string {
	one, several := what, what
	switch what {
	case "follows":
		one, several = "will follow without being asked", "will follow without being asked"
	case "approves":
		one, several = "must approve", "must approve"
	case "adds":
		one, several = "is told by a message", "are told by a message"
	case "unreachable":
		one, several = "can not be reached now (tried for 60 days)", "can not be reached now (tried for 60 days)"
	case "moved":
		one, several = "has moved, too", "have moved, too"
	case "kept":
		one, several = "comes along without a question", "come along without a question"
	}
	if n == 1 {
		return one
	}
	return several
}
