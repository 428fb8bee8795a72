package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pibox/internal/testclient"
)

// patience is how long the box may take for one thing.
const patience = 30 * time.Second

// random is the randomness of one purpose in one round.
func (r *run) random(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.state.Seed, uint64(r.state.Round)<<16|purpose))
}

// round is: start, check, load, cut.
func (r *run) round(ctx context.Context) error {
	rng := r.random(0)
	if r.state.Round%r.perBox == 0 {
		if err := r.newBox(ctx, rng); err != nil {
			return fmt.Errorf("a new box: %w", err)
		}
	}
	if rng.IntN(5) == 0 {
		if err := r.cutStarting(rng); err != nil {
			return err
		}
	}
	last := (r.state.Round+1)%r.perBox == 0
	t, err := r.restart(ctx, rng, last || rng.IntN(10) == 0)
	if err != nil {
		return err
	}
	how, err := t.underLoad(ctx, rng)
	if err != nil {
		return err
	}
	if err := r.check(how); err != nil {
		return err
	}
	if !r.quiet {
		fmt.Printf("round %d: first login after %s; %s%s\n", r.state.Round, r.logins[len(r.logins)-1].Round(time.Millisecond), how, r.lost())
	}
	return nil
}

// lost tells what the last cut took.
func (r *run) lost() string {
	if r.power.disk == nil {
		return ""
	}
	return "; " + r.power.toll.String()
}

// found is the folder with what was found after the last cut.
func (r *run) found() string { return filepath.Join(r.dir, "cut") }

// check reads the database that the power cut left, as a start does: in a process of its own, because damage can end the one that reads it.
func (r *run) check(when string) error {
	r.cuts++
	folder := r.found()
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := r.power.save(folder); err != nil {
		return err
	}
	file := filepath.Join(folder, filepath.Base(r.box.Store()))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && r.state.Model == nil {
		return nil // it was not made yet
	}
	if out, err := exec.Command(r.box.Binary, "check-store", file).CombinedOutput(); err != nil {
		return fmt.Errorf("%s%s: the database is damaged: %w: %s", when, r.lost(), err, out)
	}
	return nil
}

// cutStarting cuts the power while the box comes up.
func (r *run) cutStarting(rng *rand.Rand) error {
	changes, after := 1+rng.IntN(40), time.Duration(rng.Int64N(int64(120*time.Millisecond)))
	if err := r.power.on(); err != nil {
		return err
	}
	r.power.cutAfter(changes)
	if err := r.box.Launch(); err != nil {
		return err
	}
	select {
	case <-time.After(after):
	case <-r.power.whenCut():
	case <-r.box.Ended():
		return fmt.Errorf("the box ended by itself while it came up; see %s", r.box.LogFile())
	}
	if err := r.power.cut(r.box, rng); err != nil {
		return err
	}
	r.orderly = false // the sessions that it took over are gone with the power
	return r.check("the power was cut while the box came up")
}

// restart starts the box and checks all that was acknowledged; now and then the power is cut once more meanwhile.
func (r *run) restart(ctx context.Context, rng *rand.Rand, whole bool) (*town, error) {
	for again := rng.IntN(6) == 0 && r.power.disk != nil; ; again = false {
		t := r.newTown(whole)
		if again {
			r.power.disk.CutAfter(1 + rng.IntN(200))
		}
		err := t.comeUp(ctx)
		r.power.cutAfter(0)
		if !again || !r.power.isCut() {
			return t, err
		}
		if err := t.wrong(); err != nil {
			return nil, err
		}
		if err := r.power.cut(r.box, rng); err != nil {
			return nil, err
		}
		t.leave()
		r.orderly = false
		if err := r.check("the power was cut while everybody looked for what was theirs"); err != nil {
			return nil, err
		}
	}
}

func (r *run) newTown(whole bool) *town {
	r.serial++
	return &town{
		run: r, m: r.state.Model, clients: map[string]*testclient.Client{}, pending: map[string]map[string]bool{}, serial: r.serial, whole: whole,
	}
}

// comeUp starts the box, lets everybody in and checks everything.
func (t *town) comeUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := t.power.on(); err != nil {
		return err
	}
	began := time.Now()
	if err := t.box.Launch(); err != nil {
		return err
	}
	defer t.watch()()
	for i, name := range people {
		if err := t.login(ctx, name); err != nil {
			return err
		}
		if i == 0 {
			t.logins = append(t.logins, time.Since(began))
			t.checkAuthority()
		}
	}
	t.orderly = false
	err := t.verify(ctx)
	return errors.Join(t.wrong(), err)
}

// watch ends the box at once if the power is cut; the function that it returns ends watching.
func (t *town) watch() func() {
	cut, done := t.power.whenCut(), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-cut:
			t.down.Store(true)
			t.power.strike(t.box)
		case <-done:
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// underLoad lets everybody work, and cuts the power in the middle of it. It tells how.
func (t *town) underLoad(ctx context.Context, rng *rand.Rand) (how string, err error) {
	load := 20*time.Millisecond + time.Duration(rng.Int64N(int64(t.load)))
	orderly, midst := rng.IntN(12) == 0, rng.IntN(3)*(1+rng.IntN(12))
	ctx, cancel := context.WithTimeout(ctx, load+patience)
	defer cancel()
	var wg sync.WaitGroup
	t.work(ctx, &wg)
	began := time.Now()
	for wait := load; wait > 0; {
		select {
		case <-time.After(wait):
		case <-t.power.whenCut():
		case <-t.box.Ended():
			return "", errors.Join(t.wrong(), fmt.Errorf("the box ended by itself under load; see %s", t.box.LogFile()))
		case <-ctx.Done():
		}
		wait = 0
		if midst > 0 && !orderly && t.power.disk != nil { // in the midst of a transaction, more often than not
			t.power.cutAfter(midst)
			wait, midst = 100*time.Millisecond, 0
		}
	}
	t.down.Store(true)
	how = fmt.Sprintf("cut after %s of load", time.Since(began).Round(time.Millisecond))
	if orderly {
		how = t.stop(rng)
	}
	err = t.power.cut(t.box, rng)
	wg.Wait()
	t.leave()
	return how, errors.Join(t.wrong(), err)
}

// stop ends the box orderly before the power is cut, if the power lasts that long.
func (t *town) stop(rng *rand.Rand) (how string) {
	if rng.IntN(2) == 0 {
		t.power.cutAfter(1 + rng.IntN(30))
	}
	t.box.Signal(syscall.SIGTERM)
	select {
	case <-t.box.Ended():
		t.orderly = !t.power.isCut()
		return "cut after it was stopped"
	case <-t.power.whenCut():
	case <-time.After(patience):
	}
	return "cut while it stopped"
}

// work starts everybody.
func (t *town) work(ctx context.Context, wg *sync.WaitGroup) {
	for i, w := range t.workers() {
		rng := t.random(uint64(i) + 1)
		wg.Go(func() {
			for {
				if err := w.step(ctx, rng); err != nil {
					t.problem("%s: %w", w.name, err)
					return
				}
			}
		})
	}
}
