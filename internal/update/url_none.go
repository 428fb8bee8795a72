//go:build nocard

package update

import (
	"context"

	"pibox/internal/admin"
)

type patience struct{}

func defaultPatience() patience { return patience{} }

// openURL: there is no card for this processor, so nothing that could be updated; without HTTP the program stays within 15 MiB.
func openURL(context.Context, string, patience) (Stream, error) {
	return nil, admin.Errorf(admin.CodeInvalid, "this build of pibox is not the card's: it fetches no updates")
}
