//go:build nocard

package main

import "github.com/spf13/cobra"

// cardCmds: there is no card for this processor, and 15 MiB are the most that the program may take.
func cardCmds(*app) []*cobra.Command { return nil }
