package update

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"pibox/internal/admin"
	"pibox/internal/slot"
)

// Tries is how often a new system may start before it has to have confirmed itself: once and twice more for a power cut.
const Tries = 3

// Request asks for an update.
type Request struct {
	// From is a file or a URL.
	From string `json:"from"`
	// Downgrade allows an older version.
	Downgrade bool `json:"downgrade,omitempty"`
	// Once: one that was tried before is left alone. So a file that lies on the card is not tried at every start.
	Once bool `json:"once,omitempty"`
}

// Status of an update that goes on, or of the last one.
type Status struct {
	Running  bool      `json:"running"`
	From     string    `json:"from,omitempty"`
	Version  string    `json:"version,omitempty"`
	Progress Progress  `json:"progress"`
	Error    string    `json:"error,omitempty"`
	Next     string    `json:"next,omitempty"`
	Restart  bool      `json:"restart,omitempty"` // it is in its slot: the next start tries it
	At       time.Time `json:"at"`
}

func (p Place) statusPath() string { return filepath.Join(p.RunDir, "status.json") }

// Status reads what a running Install, or the last one since the start, tells.
func (p Place) Status() (s Status, there bool, err error) {
	there, err = readJSON(p.statusPath(), &s)
	if s.Running && time.Since(s.At) > silence {
		s.Running, s.Error = false, "it ended in the midst of it"
	}
	return s, there, err
}

// silence is longer than a running Install says nothing, also when a server makes it wait.
const silence = 20 * time.Minute

// ErrTried: the update was tried before.
var ErrTried = errors.New("this update was tried before")

// Check opens an update and tells what it is, and whether it can be installed here.
func (p Place) Check(ctx context.Context, from string) (Manifest, error) {
	have, err := p.Installed()
	if err != nil {
		return Manifest{}, err
	}
	o, err := p.open(ctx, from)
	if err != nil {
		return Manifest{}, err
	}
	return o.Manifest, errors.Join(o.Fits(have, false), o.Close())
}

func (p Place) open(ctx context.Context, from string) (*Opened, error) {
	keys, err := readKeys(p.Keys)
	if err != nil {
		return nil, err
	}
	return Open(ctx, from, keys)
}

// Install installs an update into the slot that is not in use, and lets the next start try it. Whatever ends it before leaves the box as
// it is. progress may be nil; the status file is kept in any case.
func (p Place) Install(ctx context.Context, req Request, progress func(Progress)) (m Manifest, err error) {
	have, err := p.Installed()
	if err != nil {
		return m, err
	}
	sys, err := p.system()
	if err != nil {
		return m, err
	}
	unlock, err := p.lock()
	if err != nil {
		return m, err
	}
	defer unlock()
	status := Status{Running: true, From: req.From}
	tell := func() {
		status.At = time.Now().UTC()
		_ = writeRun(p.statusPath(), status, nil) // for people alone
	}
	tell()
	defer func() {
		status.Running, status.Restart = false, err == nil
		var known *admin.Error
		if errors.Is(err, ErrTried) {
			status = Status{}
		} else if errors.As(err, &known) {
			status.Error, status.Next = known.Message, known.Next
		} else if err != nil {
			status.Error = err.Error()
		}
		tell()
	}()
	o, err := p.open(ctx, req.From)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	m, status.Version = o.Manifest, o.Version
	if err := p.mayInstall(m, have, req); err != nil {
		return m, err
	}
	last := time.Time{}
	err = p.into(ctx, sys, o, have, func(pr Progress) {
		if now := time.Now(); now.Sub(last) >= time.Second {
			last, status.Progress = now, pr
			tell()
		}
		if progress != nil {
			progress(pr)
		}
	})
	return m, err
}

func (p Place) mayInstall(m Manifest, have Installed, req Request) error {
	if err := m.Fits(have, req.Downgrade); err != nil {
		return err
	}
	running, err := p.Running()
	if err != nil {
		return err
	}
	if running.Unconfirmed() {
		return admin.Errorf(admin.CodeBusy, "the box is trying an update: this one has to wait until that is over").Then("It takes a few minutes: 'pibox update --status'.")
	}
	last, there, err := p.Last()
	if err != nil {
		return err
	}
	if req.Once && there && last.Digest == m.Digest() && last.Result != ResultFailed {
		return ErrTried
	}
	return nil
}

// card is what an update is written to.
type card interface {
	Read() (slot.State, error)
	Update(change func(slot.State) slot.State) (slot.State, error)
}

// slotTarget is a Target that is closed.
type slotTarget interface {
	Target
	Close() error
}

// into writes the update into the other slot, and sets the trial as the last thing.
func (p Place) into(ctx context.Context, sys slot.System, o *Opened, have Installed, progress func(Progress)) error {
	to := sys.Running.Other()
	pending := func() error {
		return writeJSON(p.outcomePath(), Outcome{
			Version: o.Version, Release: o.Release, Digest: o.Digest(), Before: have.Version, Slot: to.String(), Result: ResultPending, At: time.Now().UTC(),
		})
	}
	open := func() (slotTarget, error) { return openPartition(sys.Partition(to)) }
	return write(ctx, sys.Disk, sys.Running, open, o, pending, progress)
}

// write leaves, whatever ends it, a card that boots what runs now; and when it is done one that tries the update.
func write(ctx context.Context, c card, running slot.Slot, open func() (slotTarget, error), o *Opened, pending func() error, progress func(Progress)) error {
	// What runs is what boots, also where u-boot came to it because the other could not be loaded; and an earlier trial is over.
	state, err := c.Read()
	if err != nil {
		return err
	}
	if state.Good != running || state.Trial != slot.None || state.Generation == 0 {
		if _, err := c.Update(func(s slot.State) slot.State { return s.Confirm(running) }); err != nil {
			return err
		}
	}
	to, err := open()
	if err != nil {
		return err
	}
	err = install(ctx, o.Manifest, o.Stream, to, progress)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := pending(); err != nil {
		return err
	}
	_, err = c.Update(func(s slot.State) slot.State { return s.Try(running, Tries) })
	return err
}

// lock lets one update run at a time.
func (p Place) lock() (unlock func(), err error) {
	if err := os.MkdirAll(p.RunDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(p.RunDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = admin.Errorf(admin.CodeBusy, "an update is being installed already").Then("'pibox update --status' tells how far it is.")
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
