// Command bench measures pibox beside Prosody and ejabberd of Debian 13: the same client, the same machine, turn by turn in the same run. It prints
// a table in Markdown and writes every figure as JSON. CPU time, bytes and memory are steady; rates and latencies depend on what else the machine
// does, so that those are to be compared within one run.
package main

import (
	"context"
	"encoding/json"
	"errors"
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

// The servers, by the names of the command line.
const (
	pibox         = "pibox"
	prosodyFiles  = "prosody"
	prosodySQLite = "prosody-sqlite"
	ejabberd      = "ejabberd"
)

// report is everything that was measured.
type report struct {
	When     time.Time            `json:"when"`
	Machine  string               `json:"machine"`
	Runs     int                  `json:"runs"`
	Versions map[string]string    `json:"versions"`
	Figures  map[string][]figures `json:"figures"` // of each run
	Medians  map[string]figures   `json:"medians"`
	Missed   []string             `json:"missed"`
	Errors   []string             `json:"errors"`
}

type options struct {
	binary, dir, peers, out, only string
	servers                       []string
	runs                          int
	steadyFor                     time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.binary, "pibox", "bin/pibox", "the `program` to measure")
	flag.IntVar(&o.runs, "runs", 3, "how often; the table shows medians")
	flag.StringVar(&o.dir, "dir", "bin", "`folder` for the servers' data, on the disk that counts")
	flag.StringVar(&o.peers, "peers", "/var/cache/pibox-bench/trixie", "`folder` where setup.sh put Debian 13")
	flag.StringVar(&o.out, "json", "bin/bench.json", "`file` for all figures")
	flag.StringVar(&o.only, "only", "", "`measures`, with commas: "+strings.Join(measureNames(), ", "))
	flag.DurationVar(&o.steadyFor, "for", time.Hour, "how long \"-only steady\" goes on")
	servers := flag.String("servers", strings.Join([]string{pibox, prosodyFiles, prosodySQLite, ejabberd}, ","), "which, in that order")
	alone := flag.Bool("alone", false, "pibox without the others")
	flag.Parse()
	if o.servers = strings.Split(*servers, ","); *alone {
		o.servers = []string{pibox}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) error {
	todo, err := chosen(o)
	if err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.dir) }()
	servers, err := prepared(ctx, o)
	if err != nil {
		return err
	}
	r := &report{
		When: time.Now().UTC().Truncate(time.Second), Machine: machine(), Runs: o.runs, Versions: map[string]string{},
		Figures: map[string][]figures{}, Medians: map[string]figures{}, Missed: []string{}, Errors: []string{},
	}
	for i := range o.runs {
		if err := r.round(ctx, i, todo, servers); err != nil {
			return err
		}
	}
	for _, s := range servers {
		r.Versions[s.name()] = s.version(ctx)
		r.Medians[s.name()] = medians(r.Figures[s.name()])
	}
	if own := r.Medians[pibox]; own != nil && (o.only == "" || o.only == "allocations") {
		own["relay_allocs"], own["relay_bytes"] = allocations()
	}
	r.table(os.Stdout, o.servers)
	raw, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = os.WriteFile(o.out, append(raw, '\n'), 0o644)
	}
	if err == nil && len(r.Errors) > 0 {
		err = fmt.Errorf("%d measures failed", len(r.Errors))
	}
	return err
}

// chosen are the measures to be taken; steady only when asked for.
func chosen(o options) ([]measure, error) {
	if o.only == "" {
		return measures(0), nil
	}
	names := strings.Split(o.only, ",")
	for _, n := range names {
		if n != "allocations" && !slices.Contains(measureNames(), n) {
			return nil, fmt.Errorf("there is no measure %q: %s", n, strings.Join(measureNames(), ", "))
		}
	}
	return slices.DeleteFunc(measures(o.steadyFor), func(m measure) bool { return !slices.Contains(names, m.name) }), nil
}

// round takes each measure once, of one server after the other.
func (r *report) round(ctx context.Context, i int, todo []measure, servers []server) error {
	all := map[string]figures{}
	for _, s := range servers {
		all[s.name()] = figures{}
	}
	for _, m := range todo {
		if m.once && i > 0 {
			continue
		}
		for _, s := range servers {
			f, began := figures{}, time.Now()
			err := within(ctx, m, s, f)
			if ctx.Err() != nil {
				return errors.Join(ctx.Err(), err)
			}
			maps.Copy(all[s.name()], f)
			fmt.Fprintf(os.Stderr, "%d/%d %s, %s (%.0f s): %s\n", i+1, r.Runs, m.name, s.name(), time.Since(began).Seconds(), f)
			switch {
			case errors.Is(err, errNotOffered):
				fmt.Fprintf(os.Stderr, "%s, %s: %v\n", s.name(), m.name, err)
			case err != nil:
				r.Errors = append(r.Errors, fmt.Sprintf("%s, %s, run %d: %v", s.name(), m.name, i+1, err))
				fmt.Fprintln(os.Stderr, r.Errors[len(r.Errors)-1])
			}
		}
	}
	for name, f := range all {
		r.Figures[name] = append(r.Figures[name], f)
	}
	return nil
}

// within gives a measure its time. Then the server is ended, so that nobody waits for it any longer.
func within(ctx context.Context, m measure, s server, f figures) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("not done within %s", m.limit))
	defer cancel()
	stop := context.AfterFunc(ctx, s.kill)
	defer stop()
	err := m.run(ctx, s, f)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}

func prepared(ctx context.Context, o options) (servers []server, err error) {
	for _, name := range o.servers {
		var s server
		switch name {
		case pibox:
			s, err = newPibox(o.binary, o.dir)
		case prosodyFiles:
			s, err = newProsody(name, o.peers, o.dir, "internal")
		case prosodySQLite:
			s, err = newProsody(name, o.peers, o.dir, "sql")
		case ejabberd:
			s, err = newEjabberd(o.peers, o.dir)
		default:
			err = fmt.Errorf("there is no server %q", name)
		}
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		err = s.prepare(ctx)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		servers = append(servers, s)
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

// medians are of the runs in which there is a figure.
func medians(runs []figures) figures {
	all := map[string][]float64{}
	for _, f := range runs {
		for k, v := range f {
			all[k] = append(all[k], v)
		}
	}
	out := figures{}
	for k, v := range all {
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
