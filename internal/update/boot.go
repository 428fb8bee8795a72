package update

import (
	"fmt"
	"time"

	"pibox/internal/admin"
	"pibox/internal/slot"
)

// Boot is called early at each start, by root. It tells the daemon what was started, and settles an update that was not kept.
func (p Place) Boot() (Running, error) {
	sys, err := p.system()
	if err != nil {
		return Running{}, err
	}
	r := Running{Slot: sys.Running.String(), Trial: sys.Trial}
	state, err := sys.Disk.Read()
	if err != nil {
		return r, err
	}
	if sys.Trial && state.Good == sys.Running {
		r.Confirmed = true // by an earlier call, since this start
	}
	if err := writeRun(p.runningPath(), r, nil); err != nil {
		return r, err
	}
	if sys.Trial {
		return r, nil
	}
	if err := p.settle(sys, state); err != nil {
		return r, err
	}
	if state.Trial == slot.None {
		return r, nil
	}
	// u-boot had tries for it, or none left, and this one started all the same.
	_, err = sys.Disk.Update(slot.State.GiveUp)
	return r, err
}

// settle writes down what became of an update that waited for a start.
func (p Place) settle(sys slot.System, state slot.State) error {
	last, there, err := p.Last()
	if err != nil || !there || last.Result != ResultPending {
		return err
	}
	switch {
	case last.Slot == sys.Running.String():
		last.Result = ResultInstalled
	case state.Trial.String() == last.Slot:
		last.Result, last.Text = ResultRolledBack, "it did not start, or was cut off each time before it had shown that it works"
	default:
		last.Result, last.Text = ResultFailed, "it was cut off before it was tried"
	}
	return p.conclude(last)
}

func (p Place) conclude(o Outcome) error {
	o.At = time.Now().UTC()
	return writeJSON(p.outcomePath(), o)
}

// Confirm makes the slot that runs the one that stays: the new system works.
func (p Place) Confirm() error {
	sys, err := p.system()
	if err != nil {
		return err
	}
	if _, err := sys.Disk.Update(func(s slot.State) slot.State { return s.Confirm(sys.Running) }); err != nil {
		return err
	}
	if err := writeRun(p.runningPath(), Running{Slot: sys.Running.String(), Trial: sys.Trial, Confirmed: true}, nil); err != nil {
		return err
	}
	last, there, err := p.Last()
	if err != nil || !there || last.Result != ResultPending {
		return err
	}
	last.Result = ResultInstalled
	return p.conclude(last)
}

// RollBack lets the next start take the other slot, the one that is known to work. Text tells a person why.
func (p Place) RollBack(text string) error {
	sys, err := p.system()
	if err != nil {
		return err
	}
	if !sys.Trial {
		return admin.Errorf(admin.CodeFailed, "nothing is being tried")
	}
	last, there, err := p.Last()
	if err == nil && there && last.Result == ResultPending {
		last.Result, last.Text = ResultRolledBack, text
		_ = p.conclude(last) // the data partition may be what is broken: then the old system settles it
	}
	_, err = sys.Disk.Update(func(s slot.State) slot.State {
		if s.Good != sys.Running { // else it was confirmed
			s.Tries = 0
		}
		return s
	})
	return err
}

// Trying tells whether what runs is being tried, and not confirmed yet.
func (p Place) Trying() (bool, error) {
	sys, err := p.system()
	if err != nil || !sys.Trial {
		return false, err
	}
	state, err := sys.Disk.Read()
	return state.Good != sys.Running, err
}

// Words tells a person what became of it.
func (o Outcome) Words() string {
	switch o.Result {
	case ResultInstalled:
		return fmt.Sprintf("version %s is installed", o.Version)
	case ResultPending:
		return fmt.Sprintf("version %s is in its slot; the next start tries it", o.Version)
	case ResultRolledBack:
		return fmt.Sprintf("the update to version %s did not work, so this box went back to %s: %s", o.Version, o.Before, o.Text)
	}
	return fmt.Sprintf("the update to version %s was not tried: %s", o.Version, o.Text)
}
