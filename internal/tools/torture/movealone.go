package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pibox/internal/admin"
)

// closes is "pibox move close" of the old domain.
func (p *play) closes(ctx context.Context) error {
	return p.under(ctx, func(ctx context.Context) error {
		return insist(ctx, func(ctx context.Context) error {
			_, err := p.houses[0].Admin().MoveClose(ctx, admin.MoveCloseRequest{Old: domainOld, Now: true})
			p.done.add("commands")
			return unless(err, admin.CodeNotFound) // all are closed
		})
	})
}

// onward is "pibox move family" from the new domain to another one: everybody who lives there moves, the friar too.
func (p *play) onward(ctx context.Context) error {
	return p.under(ctx, func(ctx context.Context) error {
		return insist(ctx, func(ctx context.Context) error {
			resp, err := p.houses[0].Admin().MoveFamily(ctx, admin.MoveFamilyRequest{OldDomain: domainNew, NewDomain: domainLast})
			if err == nil && len(resp.Moves) != len(p.cast.Members)+2 {
				err = fmt.Errorf("%d moves began, of %d members", len(resp.Moves), len(p.cast.Members))
			}
			p.done.add("commands")
			return err
		})
	})
}

// bring is "pibox move bring" of an account of the other box.
func (p *play) bring(ctx context.Context) error {
	old, new := homes(comer)
	return p.session(ctx, new, func(ctx context.Context) (admin.MigrationResponse, error) {
		return p.houses[0].Admin().MoveBring(ctx, admin.MoveBringRequest{
			Old: old, OldPassword: password, New: new, Password: password, Server: p.houses[1].Addr(),
		})
	})
}

// leave is "pibox move leave", with the password at the other box.
func (p *play) leave(ctx context.Context) error {
	old, new := homes(goer)
	return p.session(ctx, new, func(ctx context.Context) (admin.MigrationResponse, error) {
		return p.houses[0].Admin().MoveLeave(ctx, admin.MoveLeaveRequest{Account: old, New: new, Password: password, Server: p.houses[1].Addr()})
	})
}

// session gives a command that logs in at the other box, and looks how it goes, as the command does. A person gives it again where it failed, or was
// interrupted, until it is through.
func (p *play) session(ctx context.Context, new string, begin func(ctx context.Context) (admin.MigrationResponse, error)) error {
	return p.under(ctx, func(ctx context.Context) error {
		for {
			p.done.add("commands")
			var is admin.Migration
			if err := insist(ctx, func(ctx context.Context) error {
				resp, err := begin(ctx)
				is = resp.Migration
				return err
			}); err != nil || is.State == admin.MigrationDone {
				return err
			}
			through, err := p.follow(ctx, new)
			if through || err != nil {
				return err
			}
			p.done.add("commands that had to be given again")
		}
	})
}

func (p *play) follow(ctx context.Context, new string) (through bool, err error) {
	for {
		resp, err := p.houses[0].Admin().Migration(ctx, admin.MigrationRequest{New: new})
		var told *admin.Error
		switch is := resp.Migration.State; {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.As(err, &told) && (told.Code == admin.CodeNotRunning || told.Code == admin.CodeBroken):
		case errors.As(err, &told): // it knows of none, or does not serve yet
			return false, nil
		case err != nil:
			return false, err
		case is == admin.MigrationDone:
			return true, nil
		case is.Over():
			return false, nil
		}
		pause(ctx, int64(50*time.Millisecond))
	}
}
