// Command bench measures pibox beside Debian's Prosody: the same client, the same machine, turn by turn in the same run. It prints a table in
// Markdown and writes every figure as JSON. CPU time and memory are steady; rates and latencies depend on what else the machine does.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"pibox/internal/testclient"
)

var salted testclient.SaltCache

// report is everything that was measured.
type report struct {
	When     time.Time            `json:"when"`
	Machine  string               `json:"machine"`
	Versions map[string]string    `json:"versions"`
	Runs     map[string][]figures `json:"runs"`
	Medians  map[string]figures   `json:"medians"`
	Targets  map[string]float64   `json:"targets"`
	Missed   []string             `json:"missed"`
}

func main() {
	binary := flag.String("pibox", "bin/pibox", "the `program` to measure")
	runs := flag.Int("runs", 3, "how often; the table shows medians")
	dir := flag.String("dir", "bin", "`folder` for the servers' data, on the disk that counts")
	out := flag.String("json", "bin/bench.json", "`file` for all figures")
	alone := flag.Bool("alone", false, "without Prosody")
	only := flag.String("only", "", "one measure: "+strings.Join(measureNames(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *binary, *dir, *out, *runs, *alone, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, binary, dir, out string, runs int, alone bool, only string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if dir, err = os.MkdirTemp(dir, "bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	servers, err := prepared(ctx, binary, dir, alone)
	if err != nil {
		return err
	}
	r := &report{
		When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Versions: map[string]string{}, Runs: map[string][]figures{},
		Medians: map[string]figures{}, Targets: targets(),
	}
	for i := range runs {
		for _, s := range servers {
			f := figures{}
			for _, m := range measures {
				if only != "" && m.name != only {
					continue
				}
				if err := within(ctx, m, s, f); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name(), m.name, err)
				}
			}
			r.Runs[s.name()] = append(r.Runs[s.name()], f)
			fmt.Fprintf(os.Stderr, "run %d of %d, %s: %s\n", i+1, runs, s.name(), f)
		}
	}
	for _, s := range servers {
		r.Versions[s.name()] = s.version(ctx)
		r.Medians[s.name()] = medians(r.Runs[s.name()])
	}
	if only == "" || only == "allocations" {
		r.Medians["pibox"]["relay_allocs"], r.Medians["pibox"]["relay_bytes"] = allocations()
	}
	r.table(os.Stdout)
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(raw, '\n'), 0o644)
}

// within gives a measure its time.
func within(ctx context.Context, m measure, s server, f figures) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return m.run(ctx, s, f)
}

func prepared(ctx context.Context, binary, dir string, alone bool) ([]server, error) {
	p, err := newPibox(binary, dir)
	if err != nil {
		return nil, err
	}
	servers := []server{p}
	if !alone {
		other, err := newProsody(dir)
		if err != nil {
			return nil, err
		}
		servers = append(servers, other)
	}
	for _, s := range servers {
		if err := s.prepare(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	return servers, nil
}

func (f figures) String() string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(f)) {
		words = append(words, fmt.Sprintf("%s %.4g", k, f[k]))
	}
	return strings.Join(words, ", ")
}

func medians(runs []figures) figures {
	out := figures{}
	for k := range runs[0] {
		var v []float64
		for _, f := range runs {
			v = append(v, f[k])
		}
		out[k] = median(v)
	}
	return out
}

func machine() string {
	model := "unknown processor"
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %d cores, %s", model, runtime.NumCPU(), runtime.Version())
}
