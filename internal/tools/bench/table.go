package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is a line of the table. A target is the most that is aimed at; 0 is none.
type row struct {
	key, words string
	target     float64
}

var rows = []row{
	{"rss_start_mb", "memory (RSS) after start, MB", 12},
	{"anon_start_mb", "… of that not of files", 0},
	{"session_kb", "kB per idle TLS session, of 1000", 40},
	{"rss_1000_mb", "RSS with 1000 idle sessions, MB", 0},
	{"login_cpu_ms", "CPU ms per login", 1.0},
	{"login_pq_cpu_ms", "… with the client's own choice of key exchange (X25519MLKEM768 where the server has it)", 0},
	{"start_ms", "start to first login, ms", 50},
	{"relay_cpu_us", "CPU µs per relayed 1:1 message, as fast as it goes", 15},
	{"relay_rate", "… messages/s", 0},
	{"paced_cpu_us", "CPU µs per relayed message at 100/s", 0},
	{"latency_p50_ms", "latency at 100/s, p50, ms", 0},
	{"latency_p99_ms", "… p99, ms", 0},
	{"relay_allocs", "allocations per relayed stanza (cut, route, deliver)", 0},
	{"relay_bytes", "… bytes", 0},
	{"write_isolated_kb", "kB written per roster change, one by one", 0},
	{"write_isolated_kb_ms", "… ms", 0},
	{"write_bulk_kb", "kB written per roster change, 1000 at once", 0},
	{"write_bulk_kb_ms", "… ms", 0},
	{"write_offline_kb", "kB written per offline message, one by one", 0},
	{"write_offline_kb_ms", "… ms", 0},
	{"write_pep_kb", "kB written per small PEP publication, one by one", 0},
	{"write_pep_kb_ms", "… ms", 0},
}

func targets() map[string]float64 {
	t := map[string]float64{}
	for _, r := range rows {
		if r.target > 0 {
			t[r.key] = r.target
		}
	}
	return t
}

// table prints the medians, and notes which targets were missed.
func (r *report) table(w io.Writer) {
	names := []string{"pibox"}
	for name := range r.Medians {
		if name != "pibox" {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	titles := []string{"median of " + fmt.Sprint(len(r.Runs["pibox"])), "target"}
	for _, n := range names {
		titles = append(titles, r.Versions[n])
	}
	fmt.Fprintf(w, "%s\n\n| %s |\n|%s\n", r.Machine, strings.Join(titles, " | "), strings.Repeat(" --- |", len(titles)))
	r.Missed = []string{}
	for _, row := range rows {
		if _, ok := r.Medians["pibox"][row.key]; !ok {
			continue
		}
		cells := []string{row.words, ""}
		if row.target > 0 {
			cells[1] = fmt.Sprintf("≤ %g", row.target)
		}
		for _, n := range names {
			cell := "–"
			if v, ok := r.Medians[n][row.key]; ok {
				cell = figure(v)
				if n == "pibox" && row.target > 0 && v > row.target {
					cell += " **missed**"
					r.Missed = append(r.Missed, row.key)
				}
			}
			cells = append(cells, cell)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
