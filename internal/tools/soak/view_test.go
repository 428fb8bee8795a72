package main

import (
	"slices"
	"strings"
	"testing"
)

func list(ids string) (out []entry) {
	for _, id := range strings.Fields(ids) {
		out = append(out, entry{id: id, origin: "other-" + id})
	}
	return out
}

func (v *view) ids() string {
	var ids []string
	for _, e := range v.order {
		ids = append(ids, e.id)
	}
	return strings.Join(ids, " ")
}

func TestView(t *testing.T) {
	v := newView()
	check := func(what, ids, after, last string) {
		t.Helper()
		if v.ids() != ids || v.query().after != after || v.query().last != last {
			t.Errorf("%s: has %q, asks behind %q, believes to have all up to %q", what, v.ids(), v.query().after, v.query().last)
		}
	}
	v.live(list("3")[0], false, true)
	check("before it caught up", "3", "", "")
	v.live(list("5")[0], false, true)
	if m := v.caughtUp(v.query(), list("1 2 3 4"), true, "me"); m != nil {
		t.Errorf("missed %v", m)
	}
	check("caught up", "1 2 3 4 5", "5", "5")
	v.live(list("6")[0], true, true)
	if v.live(list("6")[0], true, true) {
		t.Error("taken twice")
	}
	check("live", "1 2 3 4 5 6", "6", "6")
	q := v.query()
	v.live(list("6a")[0], true, true)
	if m := v.caughtUp(q, list("6a"), true, "me"); m != nil {
		t.Errorf("missed %v", m)
	}
	check("live while it asked", "1 2 3 4 5 6 6a", "6a", "6a")
	v.own["me-7"] = 1
	v.live(list("8")[0], true, true)
	check("its own is somewhere", "1 2 3 4 5 6 6a 8", "6a", "8")
	found := list("7 8 9 10")
	found[0].origin = "me-7"
	if m := v.caughtUp(v.query(), found, true, "me"); m != nil || len(v.own) > 0 {
		t.Errorf("missed %v, own %v", m, v.own)
	}
	check("its own found", "1 2 3 4 5 6 6a 7 8 9 10", "10", "10")
	v.live(list("13")[0], true, true)
	v.loose = true
	v.pin = 11
	if m := v.caughtUp(v.query(), list("11 12 13 14"), false, "me"); !slices.Equal(m, list("11 12")) {
		t.Errorf("missed %v", m)
	}
	v.live(list("16")[0], false, true)
	check("without carbons", "1 2 3 4 5 6 6a 7 8 9 10 11 12 13 14 16", "14", "14")
}
