// Command trialtest plays the trial of an updated system with real processes: the daemon of today, the same one with a migration more,
// and the units' commands, on a card in a folder. It kills them at any moment: the box must come back with all that it ever
// acknowledged, by whichever of the two daemons (docs/updates.md).
//
//	trialtest [-rounds N] [-seed N]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"pibox/internal/admin"
	"pibox/internal/slot"
	"pibox/internal/testbox"
)

func main() {
	rounds := flag.Int("rounds", 40, "how often the processes are killed")
	seed := flag.Uint64("seed", 0, "of all chance; 0: another one each time")
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := test(ctx, *rounds, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "trialtest:", err)
		os.Exit(1)
	}
}

// patience bounds every wait for something that must come.
const patience = 2 * time.Minute

func test(ctx context.Context, rounds int, seed uint64) error {
	dir, err := os.MkdirTemp("", "trial")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	old, err := build(ctx, dir, "old", places(dir)...)
	if err != nil {
		return err
	}
	tomorrow, err := build(ctx, dir, "tomorrow", append(places(dir), migrates()...)...)
	if err != nil {
		return err
	}
	host, err := testbox.FreeHost()
	if err != nil {
		return err
	}
	c := &card{dir: dir, builds: [2]string{old, tomorrow}, box: &testbox.Box{Dir: filepath.Join(dir, "box"), Host: host, Domain: "home.example"}}
	defer c.box.Kill()
	script := "#!/bin/sh\ntouch " + c.in("restarted") + "\n"
	if err := errors.Join(c.write("bin/systemctl", script), os.Chmod(c.in("bin/systemctl"), 0o755)); err != nil {
		return err
	}
	base := c.in("base")
	if err := c.makeBase(ctx, base); err != nil {
		return err
	}
	for name, play := range map[string]func(context.Context, string) error{
		"a migration is confirmed before anybody is served": c.migrationConfirmed,
		"a migration without confirmation is taken back":    c.migrationTakenBack,
		"a system that never serves is taken back":          c.neverServes,
		"no migration: serves at once, confirmed later":     c.noMigration,
	} {
		if err := play(ctx, base); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println("ok  ", name)
	}
	return c.kills(ctx, base, rounds, seed)
}

// makeBase is the data of a family that the old one serves.
func (c *card) makeBase(ctx context.Context, base string) error {
	if err := c.fresh(""); err != nil {
		return err
	}
	if err := c.boot(ctx, true); err != nil {
		return err
	}
	if err := c.serves(ctx, slot.A, nil); err != nil {
		return err
	}
	if err := c.box.AddUser(ctx, "juliet", "a pass word of hers"); err != nil {
		return err
	}
	c.box.Stop()
	return os.Rename(c.in("box/data"), base)
}

// serves starts the daemon of the slot that must run, and wants it to have these accounts, and no way back any more.
func (c *card) serves(ctx context.Context, want slot.Slot, accounts []string) error {
	if c.runs != want {
		return fmt.Errorf("slot %s runs, not %s", c.runs, want)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.box.Start(ctx); err != nil {
		return err
	}
	return c.has(ctx, accounts)
}

func (c *card) has(ctx context.Context, accounts []string) error {
	list, err := c.box.Admin().UserList(ctx, admin.UserListRequest{})
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if !slices.ContainsFunc(list.Users, func(u admin.User) bool { return u.Address == a+"@home.example" }) {
			return fmt.Errorf("%s is lost", a)
		}
	}
	left, err := filepath.Glob(c.box.Store() + ".schema-*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("it serves, and %q is still there", left)
	}
	return err
}

// waits wants a daemon that was started to wait for its confirmation.
func (c *card) waits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		u, err := c.box.Admin().UpdateStatus(ctx, admin.UpdateStatusRequest{})
		if err == nil && u.Waits {
			break
		}
		select {
		case <-c.box.Ended():
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not wait: %+v, %w", u, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if s, err := c.box.Admin().Status(ctx, admin.StatusRequest{}); err != nil || s.State != "starting" {
		return fmt.Errorf("it is %s while it waits: %w", s.State, err)
	}
	return nil
}

func (c *card) migrationConfirmed(ctx context.Context, base string) error {
	if err := errors.Join(c.fresh(base), c.boot(ctx, false), c.box.Launch()); err != nil {
		return err
	}
	if err := c.waits(ctx); err != nil {
		return err
	}
	if yes, err := c.confirmed(); yes || err != nil {
		return fmt.Errorf("confirmed too early: %w", err)
	}
	if out, err := c.command(ctx, "update", "confirm").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := c.box.AwaitServing(ctx); err != nil {
		return err
	}
	if yes, err := c.confirmed(); !yes || err != nil || c.restarted() {
		return fmt.Errorf("not confirmed, or restarted: %w", err)
	}
	if err := errors.Join(c.has(ctx, []string{"juliet"}), c.boot(ctx, false)); err != nil {
		return err
	}
	return c.serves(ctx, slot.B, []string{"juliet"})
}

func (c *card) migrationTakenBack(ctx context.Context, base string) error {
	if err := errors.Join(c.fresh(base), c.boot(ctx, false), c.box.Launch()); err != nil {
		return err
	}
	if err := errors.Join(c.waits(ctx), c.boot(ctx, true)); err != nil {
		return err
	}
	return c.serves(ctx, slot.A, []string{"juliet"})
}

func (c *card) neverServes(ctx context.Context, base string) error {
	if err := errors.Join(c.fresh(base), c.boot(ctx, false)); err != nil {
		return err
	}
	// Nobody starts the daemon.
	began := time.Now()
	if out, err := c.command(ctx, "update", "confirm").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if yes, err := c.confirmed(); yes || err != nil || !c.restarted() || time.Since(began) < 15*time.Second {
		return fmt.Errorf("confirmed, not restarted, or after %s already: %w", time.Since(began), err)
	}
	if err := c.boot(ctx, false); err != nil {
		return err
	}
	return c.serves(ctx, slot.A, []string{"juliet"})
}

func (c *card) noMigration(ctx context.Context, base string) error {
	tomorrow := c.builds[slot.B]
	c.builds[slot.B] = c.builds[slot.A]
	defer func() { c.builds[slot.B] = tomorrow }()
	if err := errors.Join(c.fresh(base), c.boot(ctx, false)); err != nil {
		return err
	}
	if err := c.serves(ctx, slot.B, []string{"juliet"}); err != nil {
		return err
	}
	if yes, err := c.confirmed(); yes || err != nil {
		return fmt.Errorf("confirmed too early: %w", err)
	}
	if err := c.box.AddUser(ctx, "romeo", "a pass word of his"); err != nil {
		return err
	}
	if out, err := c.command(ctx, "update", "confirm").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if yes, err := c.confirmed(); !yes || err != nil {
		return fmt.Errorf("not confirmed: %w", err)
	}
	// What was acknowledged before is there, whichever system serves.
	if err := c.boot(ctx, false); err != nil {
		return err
	}
	return c.serves(ctx, slot.B, []string{"juliet", "romeo"})
}

// kills ends everything at a random moment of a trial with a migration, again and again.
func (c *card) kills(ctx context.Context, base string, rounds int, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	span := 500 * time.Millisecond // about as long as it takes to serve; it is learned
	outcomes := map[string]int{}
	for n := range rounds {
		if err := c.fresh(base); err != nil {
			return err
		}
		acknowledged := []string{"juliet"}
		for range 1 + r.IntN(2) { // trials that are cut off
			romeo, took, err := c.cutTrial(ctx, time.Duration(r.Int64N(int64(2*span))), r.IntN(4) > 0)
			if err != nil {
				return fmt.Errorf("round %d, seed %d: %w", n, seed, err)
			}
			if romeo {
				acknowledged = append(acknowledged, "romeo")
				span = (span + took) / 2
			} else if r.IntN(2) == 0 {
				span += span / 20
			}
		}
		yes, err := c.confirmed()
		if err != nil {
			return err
		}
		if len(acknowledged) > 1 && !yes {
			return fmt.Errorf("round %d, seed %d: served before it was confirmed", n, seed)
		}
		want := slot.A
		if yes {
			want = slot.B
		}
		if err := errors.Join(c.boot(ctx, true), c.serves(ctx, want, acknowledged)); err != nil {
			return fmt.Errorf("round %d, seed %d: slot %s: %w", n, seed, c.runs, err)
		}
		outcomes[fmt.Sprintf("confirmed %t, served %t", yes, len(acknowledged) > 1)]++
	}
	fmt.Printf("ok   %d rounds of kills, seed %d: %v\n", rounds, seed, outcomes)
	return nil
}

// cutTrial starts the system that is tried, and ends all of it after a while. It tells whether the daemon acknowledged a new account
// by then, and how long that took.
func (c *card) cutTrial(ctx context.Context, after time.Duration, watched bool) (served bool, took time.Duration, err error) {
	if err := c.boot(ctx, false); err != nil {
		return false, 0, err
	}
	if err := c.box.Launch(); err != nil {
		return false, 0, err
	}
	began := time.Now()
	var watch *exec.Cmd
	if watched {
		watch = c.command(ctx, "update", "confirm")
		if err := watch.Start(); err != nil {
			return false, 0, err
		}
	}
	asked, cancel := context.WithCancel(ctx)
	answer := make(chan time.Duration, 1)
	go func() {
		defer close(answer)
		for asked.Err() == nil {
			var known *admin.Error
			_, err := c.box.Admin().UserAdd(asked, admin.UserAddRequest{User: "romeo", Password: "a pass word of his"})
			if err == nil || errors.As(err, &known) && known.Code == admin.CodeExists {
				answer <- time.Since(began)
				return
			}
		}
	}()
	select {
	case <-time.After(after):
	case <-ctx.Done():
	}
	if watch != nil {
		_ = watch.Process.Kill()
		_ = watch.Wait()
	}
	c.box.Kill()
	cancel()
	took, served = <-answer
	return served, took, nil
}
