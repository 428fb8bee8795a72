package main

import (
	"slices"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		name   string
		own    figures
		sqlite figures
		missed []string
		shown  string
	}{
		{"reached", figures{"archived_cpu_us": 60, "archived_rate": 600}, figures{"archived_rate": 100}, []string{}, "≥ 6 × prosody-sqlite (is 6 ×)"},
		{"too much", figures{"archived_cpu_us": 60.1}, nil, []string{"archived_cpu_us"}, "60.1 **missed**"},
		{"too little", figures{"archived_rate": 599}, figures{"archived_rate": 100}, []string{"archived_rate"}, "599 **missed**"},
		{"the other was not measured", figures{"archived_rate": 1}, nil, []string{}, "≥ 6 × prosody-sqlite |"},
		{"not measured", nil, figures{"archived_rate": 100}, []string{}, "| – | 100 |"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := report{Medians: map[string]figures{pibox: test.own, prosodySQLite: test.sqlite}, Missed: []string{}}
			var out strings.Builder
			r.table(&out, []string{pibox, prosodySQLite})
			if !slices.Equal(r.Missed, test.missed) || !strings.Contains(out.String(), test.shown) {
				t.Errorf("missed %q:\n%s", r.Missed, out.String())
			}
		})
	}
}

func TestMediansOfWhatIsThere(t *testing.T) {
	got := medians([]figures{{"a": 1, "b": 5}, {"a": 3}, {"a": 2}})
	if got["a"] != 2 || got["b"] != 5 {
		t.Errorf("%v", got)
	}
}
