package card

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// Fact is one thing that a person has to know.
type Fact struct {
	Name     string `json:"name"`
	Severity string `json:"severity"` // Failing, Degraded or Note
	Text     string `json:"text"`
}

// Severities. A note is no fault: it is not shown on the lights.
const (
	Failing  = "failing"
	Degraded = "degraded"
	Note     = "note"
)

// Orders are what the daemon is to do, by what a person wrote on the card. Each is carried out once.
type Orders struct {
	// Administrator is the first one's name; Password may be empty.
	Administrator string `json:"administrator"`
	Password      string `json:"password,omitempty"`
	// Recover, when it is another one than the last that was carried out, wants a new one-time password for an administrator.
	Recover string `json:"recover,omitempty"`
	// Hold tells why the box must not begin as a new family.
	Hold string `json:"hold,omitempty"`
}

// Report is what the daemon tells: all that stands on the card and the screen.
type Report struct {
	State        string        `json:"state"` // as health.State
	Serving      bool          `json:"serving"`
	Facts        []Fact        `json:"facts"`
	Family       string        `json:"family"`
	Domains      []string      `json:"domains"`
	Port         string        `json:"port"` // for clients
	Login        *Login        `json:"login,omitempty"`
	Certificates []Certificate `json:"certificates"`
	Recovered    string        `json:"recovered"` // the last order that was carried out
	Begun        bool          `json:"begun"`     // the first administrator's account is there
}

// Login is a way in that was not used yet.
type Login struct {
	Address  string `json:"address"`
	Password string `json:"password"`
	Given    bool   `json:"given,omitempty"` // the person chose the password, and knows it
}

// Certificate is what clients ask about.
type Certificate struct {
	Domain string `json:"domain"`
	SHA256 string `json:"sha256"`
}

const (
	ordersFile = "orders.json"
	bootFile   = "boot.json"
	factsFile  = "facts.json"
	shownFile  = "shown.json"
	// ReportFile is what the daemon writes into its own folder.
	ReportFile = "card.json"
	// RestoreFolder in the folder that the daemon is given is where it finds a backup to begin with.
	RestoreFolder = "restore"
)

// ReadOrders reads what the daemon is to do; run is Place.Run.
func ReadOrders(run string) (o Orders, err error) {
	o.Administrator = Defaults().Administrator.Name
	err = readJSON(filepath.Join(run, ordersFile), &o)
	return o, err
}

// ReadFacts reads what the daemon is to tell as its own faults; nothing where there is nothing.
func ReadFacts(run string) (list []Fact, err error) {
	err = readJSON(filepath.Join(run, factsFile), &list)
	return list, err
}

// WriteReport is for the daemon; dir is Place.Daemon. Who reads it sees the old report or the new one.
func WriteReport(dir string, r Report) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeRun(filepath.Join(dir, ReportFile), raw, 0o600, -1)
}

func readJSON(path string, v any) error {
	raw, err := read(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// writeRun writes a file under /run, which is memory: nothing is synced. gid -1 leaves the group.
func writeRun(path string, data []byte, mode fs.FileMode, gid int) error {
	if err := os.WriteFile(path+partSuffix, data, mode); err != nil {
		return err
	}
	if gid >= 0 { // the daemon, which leaves it, may not even ask (SystemCallFilter)
		if err := os.Chown(path+partSuffix, -1, gid); err != nil {
			return err
		}
	}
	return os.Rename(path+partSuffix, path)
}

// writeRunJSON writes a file that the daemon's group may read.
func (c *Card) writeRunJSON(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, gid, err := c.Host.Owner()
	return errors.Join(err, writeRun(filepath.Join(c.Run, name), raw, 0o640, gid))
}

// line makes a text from elsewhere fit for one line of a screen: no control characters, which could be commands to it.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "…"
	}
	return s
}

func latest(times ...time.Time) (at time.Time) {
	for _, t := range times {
		if t.After(at) {
			at = t
		}
	}
	return at
}
