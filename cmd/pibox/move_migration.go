package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pibox/internal/admin"
)

// attach looks for a migration that is under way: it is shown, or stopped, and nothing is asked.
func (a *app) attach(ctx context.Context, kind, old, new string, stop bool) (done bool, err error) {
	resp, err := a.client().Migration(ctx, admin.MigrationRequest{New: new})
	var known *admin.Error
	running := err == nil && !resp.Migration.State.Over()
	switch {
	case errors.As(err, &known) && known.Code != admin.CodeNotFound:
		return true, err
	case stop && (err != nil || resp.Migration.State == admin.MigrationDone): // what failed, or was interrupted, is forgotten
		return true, admin.Errorf(admin.CodeNotFound, "nothing is on its way from %s to %s", old, new)
	case stop:
		_, err = a.client().MigrationStop(ctx, admin.MigrationRequest{New: new})
		if err == nil {
			a.print(resp, "Stopped. The same command without --stop begins it again.")
		}
		return true, err
	case running && resp.Migration.Kind == kind && (resp.Migration.Old == old || strings.HasPrefix(resp.Migration.Old, old+"@")):
		return true, a.follow(ctx, resp.Migration)
	}
	return false, nil
}

// follow shows how a migration goes until it is over, or goes on with contacts who can not be reached, which may take days.
func (a *app) follow(ctx context.Context, t admin.Migration) error {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for shown := ""; !t.State.Over() && t.State != admin.MigrationRepeating; {
		if line := progressLine(t); line != shown && !a.json {
			a.say("%s", line)
			shown = line
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.say("It goes on without you. The same command shows how it goes, and with --stop ends it.")
			return ctx.Err()
		}
		resp, err := a.client().Migration(ctx, admin.MigrationRequest{New: t.New})
		switch {
		case err != nil && ctx.Err() != nil: // told at the next turn
		case err != nil:
			return err
		default:
			t = resp.Migration
		}
	}
	return a.finished(t)
}

// progressLine changes with what is being done, and with every thousand of messages.
func progressLine(t admin.Migration) string {
	switch t.State {
	case admin.MigrationWaiting:
		return "Waiting until others are there ..."
	case admin.MigrationConnecting:
		return "Logging in ..."
	}
	line := strings.ToUpper(t.Part[:min(1, len(t.Part))]) + t.Part[min(1, len(t.Part)):]
	if n := t.Counts.Archived / 1000 * 1000; n > 0 && t.Part == "archive" {
		line += fmt.Sprintf(", %d messages so far", n)
	}
	return line + " ..."
}

// sessionLine tells, below a move, what goes on at the other server, or has to be begun again.
func sessionLine(t admin.Migration) string {
	switch {
	case t.State == admin.MigrationRepeating && t.Counts.Unreached == 0:
		return "Every contact's server was reached. The box stays ready there for a while, for contacts of this box who leave, too."
	case t.State == admin.MigrationRepeating:
		return fmt.Sprintf("Of %s the server was not reached yet; it is tried again.", plural(t.Counts.Unreached, "contact"))
	case !t.State.Over():
		return "Under way: " + progressLine(t)
	case t.Error == nil:
		return string(t.State)
	case t.State == admin.MigrationInterrupted:
		return "interrupted: " + strings.ToLower(t.Error.Next[:min(1, len(t.Error.Next))]) + t.Error.Next[min(1, len(t.Error.Next)):]
	}
	return "failed: " + t.Error.Message + ". " + t.Error.Next
}

func (a *app) finished(t admin.Migration) error {
	if a.json {
		a.printJSONTo(a.out, admin.MigrationResponse{Migration: t})
	}
	if t.State == admin.MigrationFailed || t.State == admin.MigrationInterrupted {
		if t.Password != "" && !a.json {
			fmt.Fprintf(a.out, "Password of %s, shown only this once: %s\n", t.New, t.Password)
		}
		if t.Error == nil {
			return errors.New("it failed")
		}
		return t.Error
	}
	if a.json {
		return nil
	}
	c := t.Counts
	if t.Kind == "leave" {
		fmt.Fprintf(a.out, "%s moves to %s: %s told from there. 'pibox move status %s' shows how it goes.\n", t.Old, t.New, plural(c.Told, "contact"), t.New)
		switch {
		case t.State != admin.MigrationRepeating:
		case c.Unreached == 0:
			fmt.Fprintf(a.out, "For an hour the box stays ready there for contacts of this box: those who leave it as well find each other. This command with --stop ends that.\n")
		default:
			fmt.Fprintf(a.out, "Of %s nothing shows that the server got the request yet. It is sent again for two days; this command with --stop ends that, and goes on with it when the box was restarted.\n",
				plural(c.Unreached, "contact"))
		}
	} else if !t.Before.IsZero() {
		fmt.Fprintf(a.out, "%s was brought already, on %s, as %s: everything comes once. 'pibox move status %s' shows where its contacts stand now.\n",
			t.Old, t.Before.Local().Format(time.DateTime), t.New, t.New)
		a.tellBrought(t)
	} else {
		fmt.Fprintf(a.out, "%s is here as %s, with %s, %s of the archive (%s), %s, %s.\n", t.Old, t.New,
			plural(c.Contacts, "contact"), plural(c.Archived, "message"), size(c.Bytes), plural(c.Items, "published item"), plural(c.Blocked, "block"))
		fmt.Fprintf(a.out, "Its contacts are being told. 'pibox move status %s' shows how it goes.\n", t.New)
		a.tellBrought(t)
	}
	stays, server := "Not brought", "old"
	if t.Kind == "leave" {
		stays, server = "Left behind", "other"
	}
	for _, l := range t.Losses {
		times := ""
		if l.Count > 1 {
			times = fmt.Sprintf(" (%d)", l.Count)
		}
		fmt.Fprintf(a.out, "%s: %s%s: %s.\n", stays, l.What, times, l.Why)
	}
	for _, l := range t.Lacks {
		fmt.Fprintf(a.out, "About the %s server: %s.\n", server, l)
	}
	return nil
}

// tellBrought tells what somebody has to know, or to wait for, of an account that was brought.
func (a *app) tellBrought(t admin.Migration) {
	if t.Password != "" {
		fmt.Fprintf(a.out, "Password, shown only this once: %s\n", t.Password)
	}
	if n := t.Counts.Unreached; t.State == admin.MigrationRepeating && n > 0 {
		fmt.Fprintf(a.out, "%s can only be told by %s, and can not be reached now: 'pibox move status %s' says why. It is tried again for two days, unless the box is restarted; this command with --stop ends that.\n",
			plural(n, "contact"), t.Old, t.New)
	}
}
