package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testbox"
	"pibox/internal/testclient"
)

// moveRun is a series of rounds in which a family moves to another domain of its box, whose contacts live on a second one (-moves). Each round begins
// with new disks. What both boxes hold in the end is compared with what they hold after the same round without power cuts.
type moveRun struct {
	options
	state  *state
	houses [2]*house // of the family, and of the contacts
	salted testclient.SaltCache
	export []byte // of an account that is on neither box
	cast   *cast
	ends   map[end]*ending // without cuts, by what it is
	cuts   int
	began  time.Time
	rest   []time.Duration // from the last cut until all was quiet
	done   counts
}

// house is a box with its power.
type house struct {
	*testbox.Box
	power *power
}

func tortureMoves(ctx context.Context, o options) (err error) {
	own := o.dir == ""
	if own {
		if o.dir, err = os.MkdirTemp("", "pibox-torture-"); err != nil {
			return err
		}
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	run := &moveRun{options: o, began: time.Now()}
	if run.state, err = openState(o); err != nil {
		return err
	}
	err = run.all(ctx)
	for _, h := range run.houses {
		if h != nil {
			h.Kill()
			err = errors.Join(err, h.power.off())
		}
	}
	if err != nil {
		return fmt.Errorf("%w\nseed %d; the folder is kept: %s; again from there: -moves -dir %s -from %d", err, run.state.Seed, o.dir, o.dir, run.state.Round)
	}
	run.summary()
	if own {
		err = os.RemoveAll(o.dir)
	}
	return err
}

func (r *moveRun) all(ctx context.Context) error {
	if !r.quiet {
		fmt.Printf("torture: %d moves from round %d on disk %q, seed %d, folder %s\n", r.rounds, r.state.Round, r.disk, r.state.Seed, r.dir)
	}
	if r.disk == diskCard && !r.quiet {
		if err := tryDisk(r.dir); err != nil {
			return err
		}
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	for last := r.state.Round + r.rounds; r.state.Round < last; {
		if err := r.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", r.state.Round, err)
		}
		r.state.Round++
		if err := r.state.save(""); err != nil {
			return err
		}
	}
	return nil
}

// build makes two boxes that know each other, and keeps their data as they are after their first start.
func (r *moveRun) build(ctx context.Context) error {
	domains := [2][]string{{domainOld, domainNew, domainLast}, {domainOther, domainAway}}
	for i, d := range domains {
		host, err := testbox.FreeHost()
		if err != nil {
			return err
		}
		b := &testbox.Box{Binary: r.binary, Dir: filepath.Join(r.dir, "box-"+d[0]), Host: host, Domain: d[0], More: d[1:], Salted: &r.salted}
		b.Tables = map[string]string{"log": "level = \"info\"\n"}
		h := &house{Box: b}
		if err := errors.Join(os.RemoveAll(r.blank(i)), os.RemoveAll(filepath.Join(b.Dir, "data"))); err != nil {
			return err
		}
		if err := b.Start(ctx); err != nil {
			return err
		}
		if i == 1 {
			if _, err := b.Admin().UserAdd(ctx, admin.UserAddRequest{User: template, Password: password}); err != nil {
				return err
			}
			if r.export, err = exported(ctx, b); err != nil {
				return err
			}
		}
		b.Stop()
		if err := os.Rename(filepath.Join(b.Dir, "data"), r.blank(i)); err != nil {
			return err
		}
		if h.power, err = newPower(r.disk, filepath.Join(b.Dir, "data"), latency()); err != nil {
			return err
		}
		r.houses[i] = h
	}
	for i, h := range r.houses {
		other := r.houses[1-i]
		for _, d := range domains[1-i] {
			h.Config += fmt.Sprintf("[[s2s.route]]\ndomain = %q\naddress = %q\n\n", d, other.ServerAddr())
		}
		// What would take minutes is to take seconds.
		h.Config += "[moved]\nretry_min = \"1s\"\nverify_timeout = \"10s\"\n"
		h.Tables["s2s"] = fmt.Sprintf("system_roots = false\ntrust = [%q]\n", filepath.Join(r.blank(1-i), "tls", "authority.pem"))
	}
	return nil
}

func (r *moveRun) blank(i int) string { return filepath.Join(r.dir, fmt.Sprint("blank-", i)) }
func (r *moveRun) begin(i int) string { return filepath.Join(r.dir, fmt.Sprint("begin-", i)) }

// random is the randomness of one purpose at one number.
func (r *moveRun) random(n int, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.state.Seed, uint64(n)<<16|purpose))
}

func (r *moveRun) round(ctx context.Context) error {
	if r.cast == nil || r.state.Round%r.perBox == 0 {
		rng := r.random(r.state.Round/r.perBox, 1<<14)
		r.cast, r.ends = newCast(rng), map[end]*ending{}
		if err := r.cast.write(rng, [2]string{r.blank(0), r.blank(1)}, [2]string{r.begin(0), r.begin(1)}); err != nil {
			return err
		}
	}
	rng := r.random(r.state.Round, 0)
	all := scripts()
	s := all[r.state.Round%len(all)]
	if err := r.undisturbed(ctx, s.end); err != nil {
		return fmt.Errorf("without cuts: %w", err)
	}
	began, cuts := time.Now(), r.cuts
	end, err := r.play(ctx, s, rng)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	without, with := r.ends[s.end], end
	if s.end == endApart {
		without, with = r.cast.apart(without), r.cast.apart(with)
	}
	if s.end != endAny {
		if diff := differences(without, with); diff != "" {
			return fmt.Errorf("%s: it did not come to the same end:%s", s.name, diff)
		}
	}
	if !r.quiet {
		fmt.Printf("round %d: %s with %d cuts in %s, quiet after %s\n", r.state.Round, s.name, r.cuts-cuts, time.Since(began).Round(time.Millisecond),
			r.rest[len(r.rest)-1].Round(time.Millisecond))
	}
	return nil
}

// undisturbed plays the first script that comes to an end without power cuts, once for a cast, and compares it with docs/moved.md.
func (r *moveRun) undisturbed(ctx context.Context, which end) error {
	if which == endAny || r.ends[which] != nil {
		return nil
	}
	all := scripts()
	e, err := r.play(ctx, all[slices.IndexFunc(all, func(s script) bool { return s.end == which })], nil)
	if err == nil && which != endUndone {
		err = errors.Join(r.cast.expected(e, which)...)
	}
	r.ends[which] = e
	return err
}

// check reads the database that a cut left, in a process of its own.
func (r *moveRun) check(h *house) error {
	r.cuts++
	folder := filepath.Join(h.Dir, "cut")
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := h.power.save(folder); err != nil {
		return err
	}
	if out, err := exec.Command(h.Binary, "check-store", filepath.Join(folder, store1)).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: the database is damaged: %w: %s", h.Domain, err, out)
	}
	return nil
}

func (r *moveRun) summary() {
	if r.quiet {
		return
	}
	took := time.Since(r.began)
	longest := time.Duration(0)
	for _, d := range r.rest {
		longest = max(longest, d)
	}
	fmt.Printf("torture: %d moves with %d power cuts in %s, all to the same end: nobody lost, nobody asked or told twice.\n", r.rounds, r.cuts, took.Round(time.Second))
	fmt.Printf("%s. Quiet again after a cut: %s at the longest.\n", &r.done, longest.Round(time.Millisecond))
}
