package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/update"
)

func defaultLog() config.Log { return config.Default().Log }

// updateUnitCmds are what root's units of the card image run.
func updateUnitCmds(a *app) []*cobra.Command {
	unit := func(use, short string, run func(ctx context.Context) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Example: "  pibox update " + use, Args: cobra.NoArgs, Hidden: true,
			RunE: ran(func(ctx context.Context, _ []string) error { return run(ctx) }),
		}
	}
	return []*cobra.Command{
		unit("boot", "Tell what was started, and settle an update that was not kept", func(context.Context) error {
			r, err := a.place().Boot()
			if err == nil {
				a.say("slot %s, trial %t", r.Slot, r.Trial)
			}
			return err
		}),
		unit("confirm", "Wait until a system that is tried works, or go back to the old one", a.updateConfirm),
		unit("requested", "Install what the daemon asks for, or what lies on the card or a stick", a.updateRequested),
	}
}

// updateConfirm restarts the box also where the old system could not be chosen: u-boot counts the tries.
func (a *app) updateConfirm(ctx context.Context) error {
	trying, err := a.place().Trying()
	if err != nil || !trying {
		return err
	}
	confirmed, err := a.trial().Run(ctx)
	if confirmed || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, restart(ctx))
}

func (a *app) updateRequested(ctx context.Context) error {
	p := a.place()
	req, asked, err := p.Requested()
	if err != nil {
		return err
	}
	if !asked {
		from, err := p.Find(ctx)
		if isTried(err) {
			return nil
		}
		if err != nil { // a file that lies there, such as an older one, is no fault of the box
			a.say("no update: %v", err)
			return nil
		}
		req = update.Request{From: from, Once: true}
	}
	m, err := p.Install(ctx, req, nil)
	var known *admin.Error
	if !asked && (isTried(err) || errors.As(err, &known)) {
		a.say("no update: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	a.say("%s is in its slot; restarting to try it", m)
	return restart(ctx)
}
