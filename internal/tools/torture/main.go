// Command torture kills pibox (SIGKILL) at random moments under load, over and over, and checks after each restart that nothing which
// was acknowledged is lost and that what is stored makes sense.
//
// One number (-seed) decides what is tried and when it is killed; a folder (-dir) keeps the database and what is expected of it before every
// round, so that -from goes on from there. -prove builds pibox with faults on purpose (faults.go) and fails unless each one is found.
//
// A killed process loses what it had not given to the kernel; what a power cut takes from the kernel's cache this can not show.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"pibox/internal/testbox"
	"pibox/internal/testclient"
)

type options struct {
	binary string
	rounds int
	seed   uint64
	from   int
	dir    string
	load   time.Duration
	quiet  bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "pibox", "bin/pibox", "the `program` to kill")
	flag.IntVar(&o.rounds, "rounds", 200, "how often")
	flag.Uint64Var(&o.seed, "seed", 0, "decides what is tried (0: by the clock)")
	flag.IntVar(&o.from, "from", 0, "go on from this `round` of the folder")
	flag.StringVar(&o.dir, "dir", "", "`folder` for databases and expectations (\"\": one of its own, removed when all is well)")
	flag.DurationVar(&o.load, "load", time.Second, "the longest time under load before a kill")
	prove := flag.Bool("prove", false, "show that faults are found: build some in, and fail unless each is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := error(nil)
	if *prove {
		err = proveAll(ctx, o)
	} else {
		err = torture(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// torture runs all rounds.
func torture(ctx context.Context, o options) (err error) {
	own := o.dir == ""
	if own {
		if o.dir, err = os.MkdirTemp("", "pibox-torture-"); err != nil {
			return err
		}
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	run, err := prepare(o)
	if err != nil {
		return err
	}
	defer run.box.Kill()
	if err = run.all(ctx); err != nil {
		return fmt.Errorf("%w\nseed %d; the folder is kept; see %s; again from there: -dir %s -from %d", err, run.state.Seed, run.box.LogFile(), o.dir, run.state.Round)
	}
	run.summary()
	if own {
		return os.RemoveAll(o.dir)
	}
	return nil
}

// run is one series of rounds.
type run struct {
	options
	box    *testbox.Box
	state  *state
	salted testclient.SaltCache
	logins []time.Duration // from the start of the process to the first login, by round
	done   counts
}

func prepare(o options) (*run, error) {
	r := &run{options: o}
	st, err := openState(o)
	if err != nil {
		return nil, err
	}
	r.state = st
	host, err := testbox.FreeHost()
	if err != nil {
		return nil, err
	}
	r.box = &testbox.Box{
		Binary: o.binary, Dir: filepath.Join(o.dir, "box"), Host: host, Domain: "verona.example", Salted: &r.salted,
		Tables: map[string]string{"c2s": "stanza_rate = 100000\n", "s2s": "enabled = false\n", "log": "level = \"warn\"\n"},
	}
	return r, nil
}

func (r *run) all(ctx context.Context) error {
	if r.state.Model == nil {
		if err := r.firstStart(ctx); err != nil {
			return err
		}
	}
	if !r.quiet {
		fmt.Printf("torture: %d rounds from %d, seed %d, folder %s\n", r.rounds, r.state.Round, r.state.Seed, r.dir)
	}
	for last := r.state.Round + r.rounds; r.state.Round < last; {
		if err := r.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", r.state.Round, err)
		}
		r.state.Round++
		if err := r.state.save(r.box); err != nil {
			return err
		}
	}
	if _, err := r.restart(ctx); err != nil {
		return fmt.Errorf("after the last round: %w", err)
	}
	r.box.Stop()
	return nil
}

// firstStart makes the accounts.
func (r *run) firstStart(ctx context.Context) error {
	if err := r.box.Start(ctx); err != nil {
		return err
	}
	for _, name := range slices.Concat(people, mailboxes, []string{visitor}) {
		if err := r.box.AddUser(ctx, name, password); err != nil {
			return err
		}
	}
	r.box.Stop()
	r.state.Model = newModel()
	return r.state.save(r.box)
}

func (r *run) summary() {
	slices.Sort(r.logins)
	if len(r.logins) == 0 {
		return
	}
	fmt.Printf("torture: %d rounds, nothing lost. Acknowledged: %s. Start to first login after a kill: median %s, longest %s\n",
		r.state.Round, &r.done, r.logins[len(r.logins)/2].Round(time.Millisecond), r.logins[len(r.logins)-1].Round(time.Millisecond))
}
