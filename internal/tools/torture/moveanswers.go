package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pibox/internal/store"
)

// answers lets contacts answer who asks them, each once.
func (p *play) answers(ctx context.Context) error {
	return p.answerAll(ctx, p.cast.Ties, at(domainNew))
}

// answersLast is answers where everybody moved on: what was asked from the address between was taken back.
func (p *play) answersLast(ctx context.Context) error {
	return p.answerAll(ctx, p.cast.Ties, at(domainLast))
}

func (p *play) answersComer(ctx context.Context) error {
	return p.answerAll(ctx, p.cast.aloneOf(comer), newHome)
}

func (p *play) answersGoer(ctx context.Context) error {
	return p.answerAll(ctx, p.cast.aloneOf(goer), newHome)
}

// at is where members live.
func at(domain string) func(member string) string {
	return func(member string) string { return member + "@" + domain }
}

func newHome(name string) string {
	_, new := homes(name)
	return new
}

func (c *cast) aloneOf(name string) (ties []tie) {
	for _, t := range c.Alone {
		if t.Member == name {
			ties = append(ties, t)
		}
	}
	return ties
}

// answerAll lets contacts answer who asks them from a new address, and nobody else is to ask them from one.
func (p *play) answerAll(ctx context.Context, ties []tie, home func(member string) string) error {
	old := map[string]bool{} // addresses that asked before there was a move
	for _, t := range append(p.cast.Ties, p.cast.Alone...) {
		from, _ := homes(t.Member)
		old[t.Member+"@"+domainOld], old[from] = true, true
	}
	for _, who := range p.cast.Contacts {
		said := map[string]answer{}
		for _, t := range ties {
			if t.Contact == who && kindOf(t.Kind).person {
				said[home(t.Member)] = t.Answer
			}
		}
		asked, err := p.visit(ctx, p.houses[1], who+"@"+domainOther, func(from string) answer { return said[from] })
		if err != nil {
			return err
		}
		for from := range said {
			if asked[from] != 1 {
				err = errors.Join(err, fmt.Errorf("%s was shown the question of %s %d times", who, from, asked[from]))
			}
		}
		for from, n := range asked {
			if _, ok := said[from]; !ok && !old[from] {
				err = errors.Join(err, fmt.Errorf("%s was asked by %s (%d times), which his server could have found out", who, from, n))
			}
		}
		if err != nil {
			return err
		}
		p.done.addN("questions to people", len(asked))
	}
	return nil
}

// expected tells where an end without power cuts is not what docs/moved.md says.
func (c *cast) expected(e *ending, which end) (wrong []error) {
	ties, home := c.Ties, at(domainNew)
	switch which {
	case endOnward:
		home = at(domainLast)
	case endBrought:
		ties, home = c.aloneOf(comer), newHome
	case endLeft:
		ties, home = c.aloneOf(goer), newHome
	}
	for _, t := range ties {
		k, new := kindOf(t.Kind), home(t.Member)
		step, want := e.steps[[2]string{new, t.Contact + "@" + domainOther}].Step, store.MoveStep(k.state)
		switch {
		case which == endOnward && t.Kind == "blocks": // only the address between
			want = store.StepFollowed
		case which == endLeft && t.Kind == "in": // he has to ask again
			want = ""
		case which == endLeft && k.person: // what he says to the new address, the old home does not see
		case k.person && which != endUnanswered && t.Answer == approves:
			want = store.StepFollowed
		case k.person && which != endUnanswered && t.Answer == denies:
			want = store.StepRefused
		}
		if step != want {
			wrong = append(wrong, fmt.Errorf("%s and %s (%s): the job says %q, and it should be %q", t.Member, t.Contact, t.Kind, step, want))
		}
		if which == endClosed && !e.closed[t.Member+"@"+domainOld] {
			wrong = append(wrong, fmt.Errorf("%s is not closed at its old address", t.Member))
		}
		if strings.HasPrefix(string(which), "left") || step != store.StepFollowed {
			continue
		}
		if it := e.roster[[2]string{new, t.Contact + "@" + domainOther}]; !it.Sub.To() {
			wrong = append(wrong, fmt.Errorf("%s followed, and %s holds him with %s", t.Contact, new, it.Sub))
		}
	}
	return wrong
}
