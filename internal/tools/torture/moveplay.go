package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"pibox/internal/admin"
)

// play is one round of a script. fate decides on the power cuts; nil: there are none.
type play struct {
	*moveRun
	fate    *rand.Rand
	unlucky bool                // there was a cut
	last    time.Time           // of the last one
	found   func(*ending) error // looks at what a cut left of the contacts' box; nil: nothing is to be seen there
}

// script is what is done; each step waits until all is quiet.
type script struct {
	name  string
	end   end
	steps []func(p *play, ctx context.Context) error
}

// end is what a script comes to, with and without power cuts.
type end string

const (
	endAny        end = ""           // only what must hold always is looked at
	endMoved      end = "moved"      // and who was asked has answered
	endUnanswered end = "unanswered" // nobody has
	endApart      end = "apart"      // moved; what members leave behind at their old addresses about each other depends on who came first
	endUndone     end = "undone"
	endClosed     end = "closed"  // moved, and the old accounts are closed
	endOnward     end = "onward"  // moved twice; who was asked has answered the last address
	endBrought    end = "brought" // from the other box, and who was asked has answered
	endLeft       end = "left"    // to it
)

func scripts() []script {
	type steps = []func(*play, context.Context) error
	family, answers := (*play).family, (*play).answers
	return []script{
		{"a family moves", endMoved, steps{family, answers, family}},
		{"a family moves, and its members look what is new", endUnanswered, steps{family, (*play).visits, family}},
		{"a family moves, cancels and goes on", endMoved, steps{(*play).familyCancels, family, answers}},
		{"members move one by one", endApart, steps{(*play).oneByOne, answers, (*play).oneByOne}},
		{"a family moves and takes it back", endUndone, steps{family, answers, (*play).undo}},
		{"a family moves, and closes its old accounts", endClosed, steps{family, answers, (*play).closes}},
		{"a family moves, and moves on before anybody answered", endOnward, steps{family, (*play).onward, (*play).answersLast}},
		{"somebody is brought", endBrought, steps{(*play).bring, (*play).answersComer}},
		{"somebody leaves", endLeft, steps{(*play).leave, (*play).answersGoer}},
		{"an account is imported", endAny, steps{(*play).imports}},
		{"a box is restored", endAny, steps{(*play).restores}},
		{"a family takes a move back midway", endAny, steps{(*play).familyUndoes}},
	}
}

// play plays a script, and tells how it ended.
func (r *moveRun) play(ctx context.Context, s script, fate *rand.Rand) (*ending, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	p := &play{moveRun: r, fate: fate}
	for i, h := range r.houses {
		h.Kill()
		if err := errors.Join(h.power.off(), h.power.fill(r.begin(i)), h.power.on()); err != nil {
			return nil, err
		}
	}
	for _, h := range r.houses {
		if err := p.comeUp(ctx, h); err != nil {
			return nil, err
		}
	}
	var end *ending
	for i, step := range s.steps {
		err := step(p, ctx)
		if err == nil {
			end, err = p.quiet(ctx)
		}
		if err == nil {
			err = errors.Join(end.sane(r.cast)...)
		}
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i, err)
		}
	}
	return end, p.keeps(end)
}

// keeps cuts the power of both boxes once more: what was so when all was quiet is durable.
func (p *play) keeps(end *ending) error {
	rng := p.fate
	if rng == nil {
		rng = p.random(p.state.Round, 1)
	}
	after := newEnding()
	for _, h := range p.houses {
		if err := h.power.cut(h.Box, rng); err != nil {
			return err
		}
		if err := p.check(h); err != nil {
			return err
		}
		if err := after.read(filepath.Join(h.Dir, "cut", store1)); err != nil {
			return err
		}
	}
	if diff := differences(end, after); diff != "" {
		return fmt.Errorf("after a last cut, what was there before is not, or is other:%s", diff)
	}
	return nil
}

func (p *play) comeUp(ctx context.Context, h *house) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := h.power.on(); err != nil {
		return err
	}
	return h.Start(ctx)
}

// quietFor is how long a box may take until nothing is open.
const quietFor = 100 * time.Second

// quiet waits until nothing goes on.
func (p *play) quiet(ctx context.Context) (*ending, error) {
	began := time.Now()
	if !p.unlucky {
		p.last = began
	}
	var before *ending
	for same := 0; ; {
		e := newEnding()
		for _, h := range p.houses {
			select {
			case <-h.Ended():
				return nil, fmt.Errorf("%s ended by itself; see %s", h.Domain, h.LogFile())
			default:
			}
			if err := e.look(ctx, h); err != nil {
				return nil, err
			}
		}
		if before != nil && len(e.busy) == 0 && differences(before, e) == "" {
			same++
		} else {
			same = 0
		}
		if same == 2 {
			p.rest = append(p.rest, time.Since(p.last))
			return e, nil
		}
		before = e
		if time.Since(began) > quietFor {
			return nil, fmt.Errorf("after %s there still goes on: %s", quietFor, strings.Join(e.busy, "; "))
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// under does something, again and again until a box answers, while there is trouble.
func (p *play) under(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- insist(ctx, do) }()
	if err := p.troubles(ctx); err != nil {
		cancel()
		<-done
		return err
	}
	return <-done
}

// insist repeats a command that was not answered, as a person would.
func insist(ctx context.Context, do func(ctx context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, patience)
		err := do(once)
		cancel()
		var told *admin.Error
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if !errors.As(err, &told) || !slices.Contains([]admin.Code{admin.CodeNotRunning, admin.CodeBroken, admin.CodeBusy, admin.CodeFailed, admin.CodeInternal}, told.Code) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// troubles cuts the power now and then.
func (p *play) troubles(ctx context.Context) error {
	if p.fate == nil {
		return nil
	}
	n := p.fate.IntN(3)
	if !p.unlucky {
		n = 1 + p.fate.IntN(3)
	}
	for range n {
		if err := p.trouble(ctx); err != nil {
			return err
		}
	}
	return nil
}

// trouble is one power cut, of one box or both, and the start behind it, with cuts of its own.
func (p *play) trouble(ctx context.Context) error {
	a, b := p.houses[0], p.houses[1]
	hit := [][]*house{{a}, {a}, {b}, {a, b}, {b, a}}[p.fate.IntN(5)]
	if err := p.await(ctx, hit[0]); err != nil {
		return err
	}
	p.unlucky = true
	if err := p.cut(hit...); err != nil {
		return err
	}
	p.done.add("cuts under way")
	if p.fate.IntN(3) == 0 {
		pause(ctx, p.fate.Int64N(int64(400*time.Millisecond)))
	}
	for _, h := range hit {
		for p.fate.IntN(3) == 0 {
			if err := p.cutStarting(ctx, h); err != nil {
				return err
			}
			p.done.add("cuts while coming up")
		}
		if err := p.comeUp(ctx, h); err != nil {
			return err
		}
	}
	p.last = time.Now()
	return nil
}

func (p *play) cut(hit ...*house) error {
	for _, h := range hit {
		h.power.strike(h.Box)
	}
	for _, h := range hit {
		if err := h.power.cut(h.Box, p.fate); err != nil {
			return err
		}
		if err := p.check(h); err != nil {
			return err
		}
		if p.found == nil || h != p.houses[1] {
			continue
		}
		e := newEnding()
		if err := e.read(filepath.Join(h.Dir, "cut", store1)); err != nil {
			return err
		}
		if err := p.found(e); err != nil {
			return err
		}
	}
	return nil
}

// await is until the power is to be cut: by the clock, after so many changes to the disk, or while the box stops.
func (p *play) await(ctx context.Context, h *house) error {
	most := time.Duration(p.fate.Int64N(int64(1200 * time.Millisecond)))
	switch p.fate.IntN(6) {
	case 0, 1, 2: // each transaction is some ten changes
		h.power.cutAfter(1 + p.fate.IntN(1<<(1+p.fate.IntN(8))))
		most = 400 * time.Millisecond
	case 3:
		pause(ctx, int64(most))
		if p.fate.IntN(2) == 0 {
			h.power.cutAfter(1 + p.fate.IntN(30))
		}
		h.Signal(syscall.SIGTERM)
		p.done.add("while stopping")
		select {
		case <-h.Ended():
		case <-h.power.whenCut():
		case <-time.After(patience):
			return fmt.Errorf("%s does not stop", h.Domain)
		}
		return nil
	}
	select {
	case <-time.After(most):
	case <-h.power.whenCut():
	case <-h.Ended():
		return fmt.Errorf("%s ended by itself; see %s", h.Domain, h.LogFile())
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (p *play) cutStarting(ctx context.Context, h *house) error {
	if err := h.power.on(); err != nil {
		return err
	}
	h.power.cutAfter(1 + p.fate.IntN(60))
	if err := h.Launch(); err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(p.fate.Int64N(int64(300 * time.Millisecond)))):
	case <-h.power.whenCut():
	case <-h.Ended():
		return fmt.Errorf("%s ended by itself while it came up; see %s", h.Domain, h.LogFile())
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.cut(h)
}

func pause(ctx context.Context, d int64) {
	select {
	case <-time.After(time.Duration(d)):
	case <-ctx.Done():
	}
}
