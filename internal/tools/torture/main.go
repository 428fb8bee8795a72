// Command torture cuts the power of a pibox at random moments under load, over and over, and checks after each restart that everything which was
// acknowledged is there, once, and that what is stored makes sense.
//
// The box's data lie on a disk of our own (internal/tools/powercut), which forgets what was not synced, or keeps any part of it in any order. What
// counts as acknowledged: the result of an IQ; a message when the server's <a h='…'/> covers it (XEP-0198) or, where it has no stream
// management, when a request sent behind it was answered; what an administrator's command said is done. What came to a recipient counts, too:
// nothing may be delivered that can still be lost. Messages are looked up in the archives of both sides (XEP-0313), where there are
// any, and told apart by their origin-id: what was never acknowledged is sent again, and may be there more than once; everything else is there
// exactly once, in the order in which it was sent. Messages to who is away have to come to him.
//
// The power is cut under load, while the box comes up, while it makes or migrates its database, while it writes a backup, while everybody looks for what
// is theirs, while it stops and after it stopped; by the clock, or after a number of changes to the disk.
//
// One number (-seed) decides what is tried and when; a folder (-dir) keeps the data and what is expected of them before every round, so that
// -from goes on from there (-1: from the last). Every -box rounds a new box is begun, every other one with a database of the first schema.
//
// With -moves, each round is one of a family that moves to another domain of its box (XEP-0283, docs/moved.md); the contacts, in all roster states, live on
// a second box. The power of either box or both is cut while the command runs, while boxes stop and come up; the command is repeated until a box
// answers it. Then all is to come to rest, and what both boxes hold, each contact on each side, what people are asked, what the archives have, and what
// the jobs say, has to be what the same round comes to without cuts, which is compared with docs/moved.md first. In turn, moves are
// cancelled and gone on with, taken back, closed, and go on to a third domain; somebody is brought from the second box, and somebody leaves for it; and an
// account is imported and a box restored, which are whole or not there. Every round
// begins anew, so -from plays any one again; -box rounds have the same people.
//
// -disk kernel kills the process instead, on the machine's own file system: what a process has not given to the kernel is lost, and
// no more. -prove builds pibox with faults on purpose (faults.go) and fails unless each one is found; with -moves, those that only moves show.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"pibox/internal/testbox"
	"pibox/internal/testclient"
)

type options struct {
	binary string
	disk   string
	rounds int
	perBox int
	seed   uint64
	from   int
	dir    string
	load   time.Duration
	moves  bool
	quiet  bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "pibox", "bin/pibox", "the `program` to torture")
	flag.StringVar(&o.disk, "disk", diskCard, "what its data lie on: \"card\", which loses what is not synced, or \"kernel\", where it is killed only")
	flag.IntVar(&o.rounds, "rounds", 200, "how often")
	flag.IntVar(&o.perBox, "box", 25, "how many rounds with one `box`, or of moves with the same people")
	flag.Uint64Var(&o.seed, "seed", 0, "decides what is tried (0: by the clock)")
	flag.IntVar(&o.from, "from", 0, "go on from this `round` of the folder (-1: the last)")
	flag.StringVar(&o.dir, "dir", "", "`folder` for databases and expectations (\"\": one of its own, removed when all is well)")
	flag.DurationVar(&o.load, "load", time.Second, "the longest time under load before a cut")
	flag.BoolVar(&o.moves, "moves", false, "a family moves in each round, and its contacts live on a second box")
	prove := flag.Bool("prove", false, "show that faults are found: build some in, and fail unless each is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := error(nil)
	switch {
	case *prove:
		err = proveAll(ctx, o)
	case o.moves:
		err = tortureMoves(ctx, o)
	default:
		_, err = torture(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// torture runs all rounds, and tells what the box offers.
func torture(ctx context.Context, o options) (_ offers, err error) {
	own := o.dir == ""
	if own {
		if o.dir, err = os.MkdirTemp("", "pibox-torture-"); err != nil {
			return offers{}, err
		}
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return offers{}, err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return offers{}, err
	}
	run, err := prepare(o)
	if err != nil {
		if own {
			_ = os.RemoveAll(o.dir)
		}
		return offers{}, err
	}
	err = run.all(ctx)
	run.box.Kill()
	if off := run.power.off(); err == nil {
		err = off
	}
	if err != nil {
		return run.offers, fmt.Errorf("%w\nseed %d; the folder is kept; see %s; again from there: -dir %s -from %d", err, run.state.Seed, run.box.LogFile(), o.dir, run.state.Round)
	}
	run.summary()
	if own {
		err = os.RemoveAll(o.dir)
	}
	return run.offers, err
}

// run is one series of rounds.
type run struct {
	options
	box      *testbox.Box
	power    *power
	state    *state
	salted   testclient.SaltCache
	offers   offers
	sessions map[string]left // by name
	orderly  bool            // the box was stopped, and not cut off
	serial   int             // of the last town
	cuts     int
	began    time.Time
	logins   []time.Duration // from the start of the process to the first login, after a cut
	done     counts
}

func prepare(o options) (*run, error) {
	r := &run{options: o, sessions: map[string]left{}, began: time.Now()}
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
	if o.disk == diskCard && !o.quiet {
		if err := tryDisk(o.dir); err != nil {
			return nil, err
		}
	}
	if r.power, err = newPower(o.disk, filepath.Join(r.box.Dir, "data"), latency()); err != nil {
		return nil, err
	}
	if o.from != 0 {
		return r, r.power.fill(st.data())
	}
	return r, nil
}

func (r *run) all(ctx context.Context) error {
	if !r.quiet {
		fmt.Printf("torture: %d rounds from %d on disk %q, seed %d, folder %s\n", r.rounds, r.state.Round, r.disk, r.state.Seed, r.dir)
	}
	for last := r.state.Round + r.rounds; r.state.Round < last; {
		if err := r.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", r.state.Round, err)
		}
		r.state.Round++
		if err := r.state.save(r.found()); err != nil {
			return err
		}
	}
	if err := r.lastLook(ctx, r.random(1<<15)); err != nil {
		return fmt.Errorf("after the last round: %w", err)
	}
	return nil
}
