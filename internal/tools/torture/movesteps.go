package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/testclient"
	"pibox/internal/xmpp/frame"
)

// family is "pibox move family".
func (p *play) family(ctx context.Context) error {
	return p.under(ctx, p.startFamily)
}

func (p *play) startFamily(ctx context.Context) error {
	resp, err := p.houses[0].Admin().MoveFamily(ctx, admin.MoveFamilyRequest{OldDomain: domainOld, NewDomain: domainNew})
	if err == nil && len(resp.Moves) != len(p.cast.Members)+1 { // and the administrator, whom each box has
		err = fmt.Errorf("%d moves began, of %d members", len(resp.Moves), len(p.cast.Members))
	}
	p.done.add("commands")
	return err
}

// familyCancels begins, and stops it at some time.
func (p *play) familyCancels(ctx context.Context) error {
	return p.under(ctx, func(ctx context.Context) error {
		if err := insist(ctx, p.startFamily); err != nil {
			return err
		}
		if p.fate != nil {
			pause(ctx, int64(p.moment(2, 300*time.Millisecond)))
		}
		return insist(ctx, func(ctx context.Context) error {
			_, err := p.houses[0].Admin().MoveCancel(ctx, admin.MoveCancelRequest{New: domainNew})
			p.done.add("commands")
			return unless(err, admin.CodeNotFound) // it is over, or cancelled already
		})
	})
}

// moment is a random time of a goroutine of its own.
func (p *play) moment(purpose uint64, most time.Duration) time.Duration {
	return time.Duration(p.random(p.state.Round, purpose).Int64N(int64(most)))
}

func unless(err error, code admin.Code) error {
	var told *admin.Error
	if errors.As(err, &told) && told.Code == code {
		return nil
	}
	return err
}

func (p *play) takeBack(ctx context.Context) error {
	_, err := p.houses[0].Admin().MoveUndo(ctx, admin.MoveUndoRequest{New: domainNew})
	p.done.add("commands")
	return unless(err, admin.CodeNotFound)
}

func (p *play) undo(ctx context.Context) error { return p.under(ctx, p.takeBack) }

// familyUndoes begins, and takes it back at some time.
func (p *play) familyUndoes(ctx context.Context) error {
	return p.under(ctx, func(ctx context.Context) error {
		if err := insist(ctx, p.startFamily); err != nil {
			return err
		}
		if p.fate != nil {
			pause(ctx, int64(p.moment(2, 400*time.Millisecond)))
		}
		return insist(ctx, p.takeBack)
	})
}

// oneByOne is "pibox move start" for each member.
func (p *play) oneByOne(ctx context.Context) error {
	return p.under(ctx, func(ctx context.Context) error {
		for _, m := range p.cast.Members {
			if err := insist(ctx, func(ctx context.Context) error {
				_, err := p.houses[0].Admin().MoveStart(ctx, admin.MoveStartRequest{Old: m + "@" + domainOld, New: m + "@" + domainNew})
				p.done.add("commands")
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// visits lets the members log in at their new addresses: what was asked and not answered is asked again then (RFC 6121 §3.1.2).
func (p *play) visits(ctx context.Context) error {
	for _, m := range p.cast.Members {
		if _, err := p.visit(ctx, p.houses[0], m+"@"+domainNew, nil); err != nil {
			return err
		}
	}
	return nil
}

// visit logs somebody in who comes online, and gives who asks him.
func (p *play) visit(ctx context.Context, h *house, account string, reply func(from string) answer) (asked map[string]int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name, _, _ := strings.Cut(account, "@")
	cfg, err := h.ClientConfig(name, password, "visit")
	if err != nil {
		return nil, err
	}
	asked = map[string]int{}
	cfg.Account = account
	cfg.On = func(_ *testclient.Client, st *frame.Element) bool {
		if st.Name == "presence" && st.Attr("type") == "subscribe" {
			asked[st.Attr("from")]++
		}
		return st.Name == "presence"
	}
	c, err := testclient.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Cut()
	behind := func() error {
		_, err := c.IQ(ctx, "get", "", "<ping xmlns='urn:xmpp:ping'/>")
		return err
	}
	if err := errors.Join(c.Send("<presence/>"), behind()); err != nil {
		return nil, err
	}
	for from := range asked { // nothing more comes: all was quiet, and what was stored came before the reply
		if reply == nil || reply(from) == silent {
			continue
		}
		if err := c.Send("<presence type='" + string(reply(from)) + "' to='" + from + "'/>"); err != nil {
			return nil, err
		}
	}
	err = behind()
	c.Close(ctx)
	return asked, err
}
