package moved

import (
	"regexp"
	"testing"

	"pibox/internal/store"
	"pibox/internal/xmpp"
)

// What is said of a contact does not guess who that is.
func TestDetailsSayThey(t *testing.T) {
	guess := regexp.MustCompile(`\b(he|him|his|himself|she|her|hers|herself)\b`)
	for _, step := range []store.MoveStep{store.StepWaiting, store.StepTold, store.StepToTell, store.StepMoved} {
		var e ContactProgress
		c := store.MoveContact{Step: step, Address: "romeo@new.example", Failure: "no answer"}
		new(Moved).describe(nil, store.MoveJob{Outside: true}, xmpp.MustJID("romeo@away.example"), c, nil, &e)
		if e.Detail == "" || guess.MatchString(e.Detail) {
			t.Errorf("%s: %q", step, e.Detail)
		}
	}
}
