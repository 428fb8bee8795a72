// Command demo plays a move: Juliet goes from her old home to a new one, and Romeo's box follows by itself while he is offline. Three boxes run
// as processes of their own on loopback, with static routes and a family certificate authority each. Every step is told in plain words, and the
// end is checked against docs/moved.md, row 8: the exit code is 1 when anything is not as it says there.
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

	"pibox/internal/testbox"
	"pibox/internal/testclient"
)

const limit = 30 * time.Second

func main() {
	binary := flag.String("pibox", "bin/pibox", "the `program` to try")
	keep := flag.Bool("keep", false, "keep the folder with configurations, databases and logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, keep bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "pibox-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if keep {
			fmt.Println("\nEverything is kept in", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	w, err := newWorld(binary, dir)
	if err != nil {
		return err
	}
	defer w.stop()
	p := &play{world: w, story: newStory()}
	return p.all(ctx)
}

// world is the three boxes.
type world struct {
	oldHome, newHome, romeos *testbox.Box
	salted                   testclient.SaltCache
}

func (w *world) boxes() []*testbox.Box { return []*testbox.Box{w.oldHome, w.newHome, w.romeos} }

func newWorld(binary, dir string) (*world, error) {
	w := &world{}
	for _, b := range []struct {
		domain string
		box    **testbox.Box
	}{{"capulet-old.example", &w.oldHome}, {"capulet-new.example", &w.newHome}, {"montague.example", &w.romeos}} {
		host, err := testbox.FreeHost()
		if err != nil {
			return nil, err
		}
		*b.box = &testbox.Box{Binary: binary, Dir: filepath.Join(dir, b.domain), Host: host, Domain: b.domain, Salted: &w.salted}
	}
	return w, nil
}

// start lets each box make its certificate authority, and gives the others' to it, as families who know each other would.
func (w *world) start(ctx context.Context) error {
	if err := w.each(func(b *testbox.Box) error { return b.Start(ctx) }); err != nil {
		return err
	}
	return w.each(func(b *testbox.Box) error {
		b.Stop()
		var trust []string
		for _, other := range w.boxes() {
			if other != b {
				trust = append(trust, other.Authority())
				b.Config += fmt.Sprintf("[[s2s.route]]\ndomain = %q\naddress = %q\n\n", other.Domain, other.ServerAddr())
			}
		}
		b.Tables = map[string]string{"s2s": fmt.Sprintf("system_roots = false\ntrust = [%q, %q]\n", trust[0], trust[1])}
		return b.Start(ctx)
	})
}

func (w *world) stop() {
	_ = w.each(func(b *testbox.Box) error {
		b.Stop()
		return nil
	})
}

// each does the same with all boxes at once.
func (w *world) each(f func(*testbox.Box) error) error {
	errs := make(chan error)
	for _, b := range w.boxes() {
		go func() { errs <- f(b) }()
	}
	var all error
	for range w.boxes() {
		all = errors.Join(all, <-errs)
	}
	return all
}
