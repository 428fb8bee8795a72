package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pibox/internal/admin"
	"pibox/internal/box"
	"pibox/internal/update"
)

func updateCmd(a *app) *cobra.Command {
	var check, status, downgrade, stay bool
	c := &cobra.Command{
		Use:   "update [FILE|URL]",
		Short: "Update the system of a box that was installed from the card image",
		Long: `Install a signed update of the card's system: it goes into the half of the card that is not
in use, is verified there, and is tried at the restart that follows. When the new system does
not serve within some minutes, the box goes back to the old one by itself. The box serves
meanwhile, but for the restart.

Without FILE it looks for pibox-*.update on the card's first partition and on a USB stick.

A box that was not installed from the card image is updated the way it was installed.`,
		Example: "  pibox update --check https://example.org/pibox-1.2.update\n  pibox update /media/usb/pibox-1.2.update\n  pibox update --status",
		Args:    cobra.MaximumNArgs(1),
		RunE: ran(func(ctx context.Context, args []string) error {
			from := ""
			if len(args) > 0 {
				from = args[0]
			}
			switch {
			case status:
				return a.updateStatus(ctx)
			case check:
				return a.updateCheck(ctx, from)
			}
			return a.update(ctx, update.Request{From: from, Downgrade: downgrade}, stay)
		}),
	}
	c.Flags().BoolVar(&check, "check", false, "only tell whether it can be installed here")
	c.Flags().BoolVar(&status, "status", false, "tell how far an update is, or what became of the last one")
	c.Flags().BoolVar(&downgrade, "allow-downgrade", false, "install an older version, or the same one again (as root)")
	c.Flags().BoolVar(&stay, "no-restart", false, "do not restart: the next start tries it (as root)")
	c.MarkFlagsMutuallyExclusive("check", "status", "allow-downgrade")
	c.AddCommand(updateMakeCmd(a), updateKeyCmd(a))
	c.AddCommand(updateUnitCmds(a)...)
	return a.jsonFlag(c)
}

func (a *app) place() update.Place { return a.program.Place() }

// updated is the result for programs.
type updated struct {
	Version string    `json:"version"`
	Date    time.Time `json:"date"`
	From    string    `json:"from"`
	Restart bool      `json:"restart"` // it is tried at the next start
}

func (a *app) updateCheck(ctx context.Context, from string) (err error) {
	p := a.place()
	if from == "" {
		if from, err = p.Find(ctx); err != nil {
			return err
		}
	}
	m, err := p.Check(ctx, from)
	if err != nil {
		return mayNot(err, "read", from)
	}
	a.print(updated{m.Version, m.Date(), from, false}, "%s: %s can be installed here.", from, m)
	return nil
}

// update installs: root by itself, others through the daemon and root's unit.
func (a *app) update(ctx context.Context, req update.Request, stay bool) (err error) {
	if os.Geteuid() != 0 {
		return a.updateAsk(ctx, req, stay)
	}
	p := a.place()
	if _, err := p.Installed(); err != nil {
		return err
	}
	if req.From == "" {
		if req.From, err = p.Find(ctx); err != nil {
			return err
		}
	}
	m, err := a.install(ctx, req)
	if err != nil {
		return err
	}
	words := "It is tried at the next start."
	if !stay {
		words = "The box restarts now and tries it."
	}
	a.print(updated{m.Version, m.Date(), req.From, true}, "%s is in its slot. %s", m, words)
	if stay {
		return nil
	}
	return restart(ctx)
}

func (a *app) install(ctx context.Context, req update.Request) (update.Manifest, error) {
	var b *bar
	step := update.Step("")
	defer func() {
		if b != nil {
			b.end()
		}
	}()
	return a.place().Install(ctx, req, func(p update.Progress) {
		if b == nil || p.Step != step {
			if b != nil {
				b.end()
			}
			b, step = a.bar(string(p.Step), p.Total), p.Step
		}
		_, _ = b.Write(make([]byte, max(0, p.Done-b.done)))
	})
}

// restart lets systemd do so, or the kernel where that can not.
func restart(ctx context.Context) error {
	if err := exec.CommandContext(ctx, "systemctl", "reboot").Run(); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "reboot", "--force", "--force").CombinedOutput(); err != nil {
		return admin.Errorf(admin.CodeFailed, "the box could not be restarted: %v %s", err, out).Then("Unplug it and plug it in again: then it tries the update.")
	}
	return nil
}

func (a *app) updateAsk(ctx context.Context, req update.Request, stay bool) error {
	if req.Downgrade || stay {
		return admin.Errorf(admin.CodeForbidden, "only root may do that").Then("Use sudo.")
	}
	if req.From != "" && !strings.Contains(req.From, "://") {
		path, err := filepath.Abs(req.From) // the daemon has another folder
		if err != nil {
			return err
		}
		req.From = path
	}
	resp, err := a.client().UpdateStart(ctx, admin.UpdateStartRequest{From: req.From})
	if err != nil {
		return err
	}
	a.print(updated{resp.Version, resp.Date, resp.From, false}, "Version %s is being installed; then the box restarts. 'pibox update --status' tells how far it is.", resp.Version)
	return nil
}

func (a *app) updateStatus(ctx context.Context) error {
	s, err := a.client().UpdateStatus(ctx, admin.UpdateStatusRequest{})
	if err != nil {
		return err
	}
	a.print(s, "%s", updateText(s))
	return nil
}

func updateText(s admin.UpdateStatusResponse) string {
	if !s.Image {
		return "This box was not installed from the card image: it is updated the way it was installed."
	}
	text := fmt.Sprintf("This box runs version %s, from slot %s.", s.Version, s.Slot)
	if s.Trial {
		text += " It is being tried: if it does not work within some minutes, the box goes back to the old version."
	}
	switch {
	case s.Installing && s.Total > 0:
		text += fmt.Sprintf("\nAn update is being installed: %s, %d %%.", s.Step, 100*s.Done/s.Total)
	case s.Installing:
		text += "\nAn update is being looked at."
	case s.Restart:
		text += "\nAn update is in its slot: the next start tries it."
	case s.Error != "":
		text += "\nThe last update was not installed: " + s.Error + ". " + s.Next
	}
	if s.Last != "" {
		text += fmt.Sprintf("\nThe last one: %s (%s).", s.Last, s.LastAt.Local().Format(time.DateTime))
	}
	return text
}

// trial watches over a system that is being tried.
func (a *app) trial() update.Trial {
	p, client := a.place(), a.client()
	return update.Trial{
		Confirm: p.Confirm, RollBack: p.RollBack, Log: newLog(defaultLog()),
		Ask: func(ctx context.Context) (h update.Health, err error) {
			u, err := client.UpdateStatus(ctx, admin.UpdateStatusRequest{})
			if err != nil {
				return h, err
			}
			s, err := client.Status(ctx, admin.StatusRequest{})
			return update.Health{Serves: box.Serves(s.State), Ready: u.Waits, PID: s.PID, Words: append([]string{s.State}, s.Reasons...)}, err
		},
	}
}

// isTried tells whether there is nothing to do.
func isTried(err error) bool {
	var known *admin.Error
	return errors.Is(err, update.ErrTried) || errors.As(err, &known) && (known.Code == admin.CodeExists || known.Code == admin.CodeNotFound)
}
