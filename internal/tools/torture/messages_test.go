package main

import (
	"slices"
	"testing"
)

// What an archive may hold of a message, by what its sender and its recipient saw.
func TestFound(t *testing.T) {
	never := func(string) bool { return false }
	for _, tc := range []struct {
		name     string
		sent     int // times
		acked    bool
		seen     []string
		mine     []string // entries in the sender's archive
		theirs   []string // and in the recipient's
		problems int
	}{
		{"acknowledged and there", 1, true, nil, []string{"a"}, []string{"b"}, 0},
		{"acknowledged and lost", 1, true, nil, nil, nil, 2},
		{"acknowledged and in one archive only", 1, true, nil, []string{"a"}, nil, 1},
		{"acknowledged and there twice", 1, true, nil, []string{"a", "b"}, []string{"c", "d"}, 2},
		{"not acknowledged and lost", 1, false, nil, nil, nil, 0},
		{"not acknowledged and there", 1, false, nil, []string{"a"}, []string{"b"}, 0},
		{"not acknowledged and in one archive only", 1, false, nil, nil, []string{"b"}, 1},
		{"not acknowledged, sent again, there twice", 2, true, nil, []string{"a", "b"}, []string{"c", "d"}, 0},
		{"not acknowledged, sent again, there three times", 2, true, nil, []string{"a", "b", "x"}, []string{"c", "d", "y"}, 2},
		{"delivered and lost", 1, false, []string{"b"}, nil, nil, 2},
		{"delivered and there", 1, false, []string{"b"}, []string{"a"}, []string{"b"}, 0},
		{"delivered under another id", 1, true, []string{"x"}, []string{"a"}, []string{"b"}, 1},
	} {
		m := newModel()
		for range tc.sent {
			m.sending("v1", "juliet", "romeo", 1)
		}
		for _, id := range tc.seen {
			m.seen("v1", "romeo", id)
		}
		if tc.acked {
			m.acked([]string{"v1"}, never)
		}
		order := func(n int) []string { return slices.Repeat([]string{"v1"}, n) }
		wrong := m.found("juliet", order(len(tc.mine)), map[string][]string{"v1": tc.mine})
		wrong = append(wrong, m.found("romeo", order(len(tc.theirs)), map[string][]string{"v1": tc.theirs})...)
		if len(wrong) != tc.problems {
			t.Errorf("%s: %d problems: %v", tc.name, len(wrong), wrong)
		}
		if again := m.found("juliet", []string{"v1"}, map[string][]string{"v1": {"z"}}); len(again) != 1 {
			t.Errorf("%s: it comes up again, and that is found to be wrong %d times", tc.name, len(again))
		}
	}
}

func TestOrder(t *testing.T) {
	m := newModel()
	entries := map[string][]string{}
	for _, id := range []string{"v1", "v2", "v10"} {
		m.sending(id, "juliet", "romeo", 1)
		entries[id] = []string{"in the archive " + id}
	}
	if wrong := m.found("juliet", []string{"v1", "v2", "v10"}, entries); len(wrong) > 0 {
		t.Error(wrong)
	}
	if wrong := m.found("romeo", []string{"v1", "v10", "v2"}, entries); len(wrong) != 1 {
		t.Errorf("out of order: %v", wrong)
	}
}

// Who is away is owed what was acknowledged, until it came.
func TestOwed(t *testing.T) {
	m := newModel()
	for _, id := range []string{"v1", "v2", "v3"} {
		m.sending(id, "juliet", "mercutio", 1)
	}
	m.seen("v2", "mercutio", "")
	m.acked([]string{"v1", "v2"}, func(to string) bool { return to == "mercutio" })
	if got := m.missing("mercutio"); !slices.Equal(got, []string{"v1"}) {
		t.Errorf("missing %v", got)
	}
	if got := m.unacked("juliet", 0); !slices.Equal(got, []string{"v3"}) {
		t.Errorf("not acknowledged: %v", got)
	}
	m.sending("v3", "juliet", "mercutio", 2)
	m.acked([]string{"v3"}, func(string) bool { return true })
	if !m.repeated("mercutio", "v3") || m.repeated("mercutio", "v1") {
		t.Error("what was sent again is not told apart")
	}
	m.seen("v1", "mercutio", "")
	m.seen("v3", "mercutio", "")
	if got := m.missing("mercutio"); len(got) > 0 {
		t.Errorf("missing %v", got)
	}
}
