package main

import (
	"math/rand/v2"
	"strings"
	"testing"

	"pibox/internal/store"
)

// The same twice is not the same as once.
func TestDifferences(t *testing.T) {
	want, got := newEnding(), newEnding()
	want.lines = []string{"archive a", "roster b"}
	got.lines = []string{"archive a", "archive a", "roster c"}
	diff := differences(want, got)
	for _, line := range []string{"with cuts:    archive a", "without cuts: roster b", "with cuts:    roster c"} {
		if strings.Count(diff, line) != 1 {
			t.Errorf("%q is not told once in %s", line, diff)
		}
	}
	if diff := differences(want, want); diff != "" {
		t.Error(diff)
	}
}

func TestSane(t *testing.T) {
	c := &cast{}
	a, b := "juliet@"+domainNew, "c00@"+domainOther
	whole := func() *ending {
		e := newEnding()
		e.here[a], e.here[b], e.owners[a] = true, true, true
		e.roster[[2]string{a, b}] = store.RosterItem{Sub: store.SubTo}
		e.roster[[2]string{b, a}] = store.RosterItem{Sub: store.SubFrom}
		return e
	}
	for _, tc := range []struct {
		name  string
		spoil func(*ending)
		ok    bool
	}{
		{"both agree", func(*ending) {}, true},
		{"one side", func(e *ending) { delete(e.roster, [2]string{b, a}) }, false},
		{"a question that nobody has", func(e *ending) { e.roster[[2]string{b, a}] = store.RosterItem{Sub: store.SubFrom, Ask: true} }, false},
		{"a question that is there", func(e *ending) {
			e.roster[[2]string{b, a}] = store.RosterItem{Sub: store.SubFrom, Ask: true}
			e.asked[[2]string{a, b}] = true
		}, true},
		{"asked about who is let in", func(e *ending) { e.asked[[2]string{b, a}] = true }, false},
		{"contacts of nobody", func(e *ending) { delete(e.here, a) }, false},
		{"told twice", func(e *ending) { e.lines = []string{"archive x", "archive x"} }, false},
	} {
		e := whole()
		tc.spoil(e)
		if wrong := e.sane(c); (len(wrong) == 0) != tc.ok {
			t.Errorf("%s: %v", tc.name, wrong)
		}
	}
}

// No cast has more requests than a server is sent at once, and each kind comes up.
func TestCasts(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(50) {
		requests := 0
		for _, tie := range newCast(rand.New(rand.NewPCG(seed, 0))).Ties {
			seen[tie.Kind] = true
			if kindOf(tie.Kind).requests {
				requests++
			}
		}
		if requests > manyRequests {
			t.Errorf("%d requests", requests)
		}
	}
	if len(seen) != len(tieKinds()) {
		t.Errorf("only %v", seen)
	}
}
