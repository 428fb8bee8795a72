package box

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pibox/internal/health"
	"pibox/internal/store"
)

// A system that is being tried after an update (docs/updates.md) may be gone at the next start, and the older one that comes back knows
// nothing of a newer schema. So a file that was migrated is served from only after the system was confirmed.

// lookEvery is how often the daemon looks for the confirmation.
const lookEvery = 500 * time.Millisecond

// unconfirmed tells whether the system that runs may be gone after the next start.
func (d *Daemon) unconfirmed() bool {
	r, err := d.place.Running()
	if err != nil {
		d.log.Error("it is not known whether an update is being tried", "error", err)
		return true
	}
	return r.Unconfirmed()
}

// mayServe returns when somebody may be served from the database: where it was migrated and the system is being tried, after the
// confirmation. Everything that can fail has been opened before.
func (d *Daemon) mayServe(ctx context.Context, path string) error {
	unserved, err := store.Unserved(path)
	if err != nil {
		return err
	}
	if unserved && d.unconfirmed() {
		d.log.Info("the database was migrated: waiting for the new system to be confirmed")
		d.waiting.Store(true)
		defer d.waiting.Store(false)
		if err := d.awaitConfirmation(ctx); err != nil {
			return err
		}
	}
	return store.DropBefore(path)
}

func (d *Daemon) awaitConfirmation(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for d.unconfirmed() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// takeBefore takes back the database as it was before a newer pibox migrated it, where nobody was served from it since. newer is what is
// wrong with the one that is there.
func (d *Daemon) takeBefore(ctx context.Context, path string, newer error) error {
	before := store.Before(path)
	if before == "" {
		return newer
	}
	if err := CheckStore(ctx, before); err != nil {
		return errors.Join(newer, fmt.Errorf("the copy from before can not be used either: %w", err))
	}
	unlock, err := lockFolder(d.config().DataDir)
	if err != nil {
		return errBusyFolder(err)
	}
	defer unlock()
	d.log.Warn("the database was migrated by a newer pibox that never served: taking back the copy from before")
	return store.TakeBefore(path)
}

// Serves tells whether a box in that state of health serves.
func Serves(state string) bool {
	switch health.State(state) {
	case health.Well, health.Degraded, health.Moving:
		return true
	}
	return false
}
