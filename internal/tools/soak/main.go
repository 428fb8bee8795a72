// Command soak lets the devices of a few families come and go for half an hour, and then compares what each of them has of each conversation with
// the archive (XEP-0313) of its account.
//
// A device closes its stream, or loses its connection and resumes its session (XEP-0198), or comes too late for that, or forgets its session, or
// is away for long; boxes are restarted and killed. Each device behaves as a good client does: with a fresh session it turns carbons on (if it is one
// that does), sends again what nobody acknowledged, and asks the archive for what came behind the last id that it knows; what it sent itself it
// finds there by origin-id. With carbons, what comes from then on has to be all there is; after a resumption it asks for nothing.
//
// What has to be true is said where it is checked: take.go (live), view.go (between queries), verify.go (at the end), watch.go (the boxes themselves).
//
// One number (-seed) decides what each device does; how it falls together is up to the clock.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	binary   string
	time     time.Duration
	seed     uint64
	boxes    int
	accounts int
	devices  int
	pace     time.Duration
	restarts int
	dir      string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "pibox", "bin/pibox", "the `program` to try")
	flag.DurationVar(&o.time, "for", 30*time.Minute, "how long devices come and go")
	flag.Uint64Var(&o.seed, "seed", 0, "decides what they do (0: by the clock)")
	flag.IntVar(&o.boxes, "boxes", 1, "1, or 2 with half of the accounts each, that talk with each other")
	flag.IntVar(&o.accounts, "accounts", 20, "`number` of accounts, at least 5")
	flag.IntVar(&o.devices, "devices", 3, "`number` of devices of each")
	flag.DurationVar(&o.pace, "pace", 1500*time.Millisecond, "mean `time` between two things that a device does")
	flag.IntVar(&o.restarts, "restarts", 3, "`how often` each box is restarted, every second time by killing it")
	flag.StringVar(&o.dir, "dir", "", "`folder` for configurations, databases and logs (\"\": one of its own, removed when all is well)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := soak(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soak(ctx context.Context, o options) (err error) {
	if o.boxes != 1 && o.boxes != 2 || o.accounts < 5 || o.devices < 1 {
		return errors.New("one or two boxes, five accounts, one device at least")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	own := o.dir == ""
	if own {
		if o.dir, err = os.MkdirTemp("", "pibox-soak-"); err != nil {
			return err
		}
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.time+20*time.Minute)
	defer cancel()
	t, err := newTown(o)
	if err == nil {
		err = t.all(ctx)
		t.stop()
	}
	if err != nil {
		return fmt.Errorf("%w\nseed %d; everything is kept in %s", err, o.seed, o.dir)
	}
	if own {
		return os.RemoveAll(o.dir)
	}
	return nil
}
