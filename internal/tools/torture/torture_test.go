package main

import (
	"os"
	"testing"

	"pibox/internal/xmpp/frame"
)

// The faults that -prove builds in are written against the product's source: each has to apply still.
func TestFaultsApply(t *testing.T) {
	t.Chdir("../../..")
	for _, f := range faults {
		changed, err := f.apply()
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		if raw, err := os.ReadFile(f.file); err != nil || string(raw) == changed {
			t.Errorf("%s changes nothing (%v)", f.name, err)
		}
	}
}

func TestSettle(t *testing.T) {
	sent := "b"
	for _, tc := range []struct {
		name  string
		maybe *string
		got   string
		ok    bool
	}{
		{"acknowledged and there", nil, "a", true},
		{"acknowledged and lost", nil, "", false},
		{"sent later, not done", &sent, "a", true},
		{"sent later, done", &sent, "b", true},
		{"sent later, both lost", &sent, "", false},
	} {
		m := newModel()
		m.Values["k"] = &register{Value: "a", Maybe: tc.maybe}
		if err := m.settle("k", tc.got); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		if m.value("k") != tc.got {
			t.Errorf("%s: what is there counts from now on", tc.name)
		}
	}
}

// A client's roster by version: a version that stands for two states, or goes back, is told.
func TestPush(t *testing.T) {
	item := func(name, sub string) *frame.Node {
		el, err := frame.Parse([]byte("<item jid='friend@elsewhere.example' name='"+name+"' subscription='"+sub+"'/>"), frame.NSClient, frame.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return el.Node()
	}
	l := newModel().list("juliet")
	for _, step := range []struct {
		ver, name, sub string
		ok             bool
	}{
		{"1", "x", "none", true},
		{"2", "y", "none", true},
		{"2", "y", "none", true}, // once more, as before
		{"2", "z", "none", false},
		{"1", "x", "none", false},
		{"e7.3", "", "remove", true},
		{"", "x", "none", false},
	} {
		if err := l.push(step.ver, item(step.name, step.sub)); (err == nil) != step.ok {
			t.Errorf("%+v: %v", step, err)
		}
	}
	if len(l.Items) != 0 {
		t.Errorf("removed, and there: %v", l.Items)
	}
}
