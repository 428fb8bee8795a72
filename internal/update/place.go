package update

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pibox/internal/admin"
	"pibox/internal/slot"
)

// Place is where an image system has its parts. The zero value is this machine.
type Place struct {
	Slot slot.Where
	// Release is the file with the system's version (os-release(5)).
	Release string
	// Keys is the file with the public keys that updates are signed by.
	Keys string
	// Data is the folder, on the data partition, that remembers what became of updates.
	Data string
	// RunDir is the folder for what holds until the next start.
	RunDir string
	// Folders in which updates are looked for.
	Folders []string
	// Request is the file by which the daemon, which may do nothing, asks for an update.
	Request string
}

// Defaults fills in what is not set.
func (p Place) Defaults() Place {
	def := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	def(&p.Release, "/usr/lib/os-release")
	def(&p.Keys, "/usr/lib/pibox/update-keys")
	def(&p.Data, "/data/update")
	def(&p.RunDir, "/run/pibox-update")
	def(&p.Request, "/run/pibox/update-request.json")
	if p.Folders == nil {
		p.Folders = []string{"/boot/pibox", "/media/usb"}
	}
	return p
}

// Installed reads which version runs. The error is errNotImage where it is not the card's system.
func (p Place) Installed() (Installed, error) {
	raw, err := os.ReadFile(p.Release)
	if errors.Is(err, fs.ErrNotExist) {
		return Installed{}, errNotImage
	}
	if err != nil {
		return Installed{}, err
	}
	words := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		words[name] = strings.Trim(value, `"'`)
	}
	release, err := strconv.ParseInt(words["PIBOX_RELEASE"], 10, 64)
	if words["IMAGE_ID"] != "pibox" || err != nil {
		return Installed{}, errNotImage
	}
	return Installed{Version: words["IMAGE_VERSION"], Release: release}, nil
}

var errNotImage = admin.Errorf(admin.CodeFailed, "this box was not installed from the card image, so there is no slot that an update could go into").
	Then("Update it the way it was installed: with its package, or with the ansible playbook.")

// system finds the slots.
func (p Place) system() (slot.System, error) {
	s, err := slot.Find(p.Slot)
	if errors.Is(err, slot.ErrNotImage) {
		err = errNotImage
	}
	return s, err
}

// readJSON reads a file that was written by writeJSON. There may be none.
func readJSON(path string, v any) (there bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(raw, v)
}

// writeJSON lets a file appear whole, and durably. Everybody may read it.
func writeJSON(path string, v any) error {
	if err := writeRun(path, v, (*os.File).Sync); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeRun lets a file appear whole; it may be gone with the power, as all in /run.
func writeRun(path string, v any, sync func(*os.File) error) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil && sync != nil {
		err = sync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Outcome is what became of an update, or what it is about to become.
type Outcome struct {
	Version string `json:"version"`
	Release int64  `json:"release"`
	Digest  Digest `json:"digest"`
	// Before is the version that ran.
	Before string `json:"before"`
	Slot   string `json:"slot"` // that it was written into
	Result Result `json:"result"`
	// Text tells a person why it did not work.
	Text string    `json:"text,omitempty"`
	At   time.Time `json:"at"`
}

// Result of an update.
type Result string

// The results.
const (
	ResultPending    Result = "pending"   // it waits for the restart, or is being tried
	ResultInstalled  Result = "installed" // it runs, and stays
	ResultRolledBack Result = "rolled back"
	ResultFailed     Result = "failed" // it was not even tried
)

func (p Place) outcomePath() string { return filepath.Join(p.Data, "last.json") }

// Last tells what became of the last update; false where there was none.
func (p Place) Last() (o Outcome, there bool, err error) {
	there, err = readJSON(p.outcomePath(), &o)
	return o, there, err
}

// Running is what holds since the start: root's units write it, the daemon reads it.
type Running struct {
	Slot string `json:"slot"`
	// Trial: the slot is being tried.
	Trial bool `json:"trial"`
	// Confirmed: it stays.
	Confirmed bool `json:"confirmed"`
}

func (p Place) runningPath() string { return filepath.Join(p.RunDir, "running.json") }

// Running reads it; the zero value is a system that is not of the card's image.
func (p Place) Running() (r Running, err error) {
	_, err = readJSON(p.runningPath(), &r)
	return r, err
}

// Unconfirmed tells whether the system that runs may be gone after the next start.
func (r Running) Unconfirmed() bool { return r.Trial && !r.Confirmed }
