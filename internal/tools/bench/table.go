package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is a line of the table.
type row struct {
	key, words string
	targets    []target
}

// target is what pibox is to reach: at most, or at least, a value; or so many times another server's.
type target struct {
	least bool
	value float64
	of    string // "": the value itself
}

func most(v float64) []target  { return []target{{value: v}} }
func least(v float64) []target { return []target{{least: true, value: v}} }

var rows = []row{
	{"rss_start_mb", "memory (RSS) after start, MB", most(12)},
	{"anon_start_mb", "… of that not of files", nil},
	{"session_kb", "kB per idle TLS session, of 1000", most(40)},
	{"rss_1000_mb", "RSS with 1000 idle sessions, MB", nil},
	{"login_cpu_ms", "CPU ms per login", most(1.0)},
	{"login_pq_cpu_ms", "… with the client's own choice of key exchange (X25519MLKEM768 where the server has it)", nil},
	{"start_ms", "start to first login, ms", most(50)},
	{"relay_cpu_us", "1:1 messages that nobody keeps: CPU µs each, as fast as it goes", most(15)},
	{"relay_rate", "… messages/s", nil},
	{"paced_cpu_us", "… CPU µs each at 100/s", nil},
	{"latency_p50_ms", "… p50 at 100/s, ms", nil},
	{"latency_p99_ms", "… p99, ms", nil},
	{"archived_cpu_us", "1:1 messages in both archives: CPU µs each, as fast as it goes", most(60)},
	{"archived_rate", "… messages/s", []target{{true, 4, prosodyFiles}, {true, 6, prosodySQLite}}},
	{"archived_bulk_kb", "… kB to the device each", most(3)},
	{"archived_paced_cpu_us", "… CPU µs each at 100/s", nil},
	{"archived_p50_ms", "… p50 at 100/s, ms", nil},
	{"archived_p99_ms", "… p99, ms", []target{{false, 1, prosodySQLite}}},
	{"archived_isolated_kb", "kB to the device per isolated archived message", most(25)},
	{"archived_isolated_kb_ms", "… ms", nil},
	{"archived_syncs", "… sync calls", nil},
	{"offline_stored_rate", "2000 messages to somebody offline: stored/s", nil},
	{"offline_collected_rate", "… collected/s", least(10000)},
	{"offline_collected_cpu_us", "… CPU µs each, login included", nil},
	{"offline_disorder", "… out of order", most(0)},
	{"pages_rate", "archive of 1000 messages: pages of 50 per second", least(500)},
	{"pages_cpu_us", "… CPU µs per page", nil},
	{"newest_ms", "… newest page, ms", most(2)},
	{"long_pages_rate", "archive of 1,000,000 messages: pages of 50 per second, from the oldest", least(500)},
	{"long_pages_back_rate", "… from the newest", least(500)},
	{"long_newest_ms", "… newest page, ms", most(2)},
	{"long_start_ms", "… start to first login, ms", nil},
	{"long_file_mb", "… size of the database, MB", nil},
	{"write_isolated_kb", "kB written per roster change, one by one", nil},
	{"write_isolated_kb_ms", "… ms", nil},
	{"write_bulk_kb", "kB written per roster change, 1000 at once", nil},
	{"write_bulk_kb_ms", "… ms", nil},
	{"write_offline_kb", "kB written per offline message, one by one", nil},
	{"write_offline_kb_ms", "… ms", nil},
	{"write_pep_kb", "kB written per small PEP publication, one by one", nil},
	{"write_pep_kb_ms", "… ms", nil},
	{"relay_allocs", "allocations per relayed stanza (cut, route, deliver)", nil},
	{"relay_bytes", "… bytes", nil},
	{"steady_minutes", "100 archived messages/s and a visit each second, minutes", nil},
	{"steady_first_mb", "… RssAnon after a fifth of that, MB", nil},
	{"steady_last_mb", "… at the end", nil},
	{"steady_most_mb", "… at most", nil},
	{"steady_growth_mb_h", "… growth, MB/h", nil},
	{"steady_p99_ms", "… p99, ms", nil},
}

// words of a target, and whether a value reaches it; false where the other server was not measured.
func (t target) judge(r *report, key string, v float64) (words string, reached, known bool) {
	bound, sign := t.value, "≤"
	if t.least {
		sign = "≥"
	}
	words = fmt.Sprintf("%s %g", sign, t.value)
	if t.of != "" {
		words += " × " + t.of
		other, ok := r.Medians[t.of][key]
		if !ok || v == 0 {
			return words, false, false
		}
		words += fmt.Sprintf(" (is %.2g ×)", v/other)
		bound *= other
	}
	if t.least {
		return words, v >= bound, true
	}
	return words, v <= bound, true
}

// table prints the medians, and notes which targets were missed.
func (r *report) table(w io.Writer, names []string) {
	titles := []string{fmt.Sprintf("median of %d", r.Runs), "target"}
	for _, n := range names {
		titles = append(titles, r.Versions[n])
	}
	fmt.Fprintf(w, "%s\n\n| %s |\n|%s\n", r.Machine, strings.Join(titles, " | "), strings.Repeat(" --- |", len(titles)))
	for _, row := range rows {
		if !slices.ContainsFunc(names, func(n string) bool { _, ok := r.Medians[n][row.key]; return ok }) {
			continue
		}
		own, measured := r.Medians[pibox][row.key]
		missed := false
		var targets []string
		for _, t := range row.targets {
			words, reached, known := t.judge(r, row.key, own)
			targets = append(targets, words)
			missed = missed || measured && known && !reached
		}
		cells := []string{row.words, strings.Join(targets, ", ")}
		for _, n := range names {
			cell := "–"
			if v, ok := r.Medians[n][row.key]; ok {
				cell = figure(v)
			}
			if n == pibox && missed {
				cell += " **missed**"
				r.Missed = append(r.Missed, row.key)
			}
			cells = append(cells, cell)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	for _, e := range r.Errors {
		fmt.Fprintf(w, "\n%s\n", e)
	}
}

func figure(v float64) string {
	switch {
	case v >= 100 || v <= -100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
