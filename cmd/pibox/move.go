package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func moveCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "move",
		Short: "Move a member, or a whole family, to another address",
		Long: `Move a member, or a whole family, to another address (XEP-0283).

The old address announces the move, the new one tells every contact. Contacts whose server verifies
moves follow without doing anything; the others are asked to approve the new address. The box goes on
with that for weeks where it has to, also after a restart: 'pibox move status' shows where each
contact stands. The old account goes on receiving messages until you close it.`,
		Example: "  pibox move plan juliet@old.example juliet@new.example\n  pibox move start juliet@old.example juliet@new.example\n  pibox move status",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("'pibox move' needs plan, start, family, bring, leave, status, cancel, undo or close")
		},
	}
	c.AddCommand(movePlanCmd(a), moveStartCmd(a), moveFamilyCmd(a), moveStatusCmd(a), moveCancelCmd(a), moveUndoCmd(a), moveCloseCmd(a), moveBringCmd(a), moveLeaveCmd(a))
	return c
}

// needsTwo wants the two arguments that a command names, and tells of them by an example.
func needsTwo(names, example string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 2 {
			return fmt.Errorf("'%s' needs %s, such as '%s %s'", c.CommandPath(), names, c.CommandPath(), example)
		}
		return nil
	}
}
