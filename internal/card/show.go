package card

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// StatusName is the name of the status on the card.
const StatusName = "pibox-status.txt"

const (
	// statusSize is that of the file, in bytes: it is overwritten in place and never grows or shrinks.
	statusSize = 8 << 10
	// statusPause is the shortest time between two writes to the card, where no secret has to go.
	statusPause = 10 * time.Minute
	writtenLine = "\nWritten on "
)

// shown is what a status run remembers until the next boot.
type shown struct {
	Screen  string    `json:"screen"` // digest
	Written time.Time `json:"written"`
}

// Status finds out how the box is, tells the daemon what it can not know, and shows everything on the screen and, where it changed, on the card.
func (c *Card) Status() error {
	mounted := c.Host.Mounted(c.Data)
	k := kept{Settings: Defaults()}
	var err error
	if mounted {
		k, err = c.load()
	}
	v := c.look(k)
	if mounted && err == nil {
		err = c.acknowledge(k, v)
	}
	return errors.Join(err, c.writeRunJSON(factsFile, faults(v.facts)), c.show(v))
}

// faults are what the daemon shows as well; those that stop it are no news to it.
func faults(list []Fact) []Fact {
	out := []Fact{}
	for _, f := range list {
		if f.Severity == Degraded {
			out = append(out, f)
		}
	}
	return out
}

// acknowledge forgets what the daemon has done.
func (c *Card) acknowledge(k kept, v view) error {
	if !v.running {
		return nil
	}
	before := k
	if k.Recover.ID != "" && v.report.Recovered == k.Recover.ID {
		k.Recover.ID = ""
	}
	if v.report.Begun {
		k.Password = ""
	}
	if v.report.Serving {
		k.Passphrase = ""
	}
	if k.Recover == before.Recover && k.Password == before.Password && k.Passphrase == before.Passphrase {
		return nil
	}
	return c.save(k)
}

func (c *Card) show(v view) error {
	var last shown
	_ = readJSON(filepath.Join(c.Run, shownFile), &last)
	text, next := v.text(), last
	var errs error
	if next.Screen = digest(text); next.Screen != last.Screen {
		errs = c.Host.Screen(text)
	}
	if v.final(c.Host.Uptime()) && c.Host.Mounted(c.FAT) {
		wrote, err := c.showOnCard(v, text, last.Written)
		errs = errors.Join(errs, err)
		if wrote {
			next.Written = c.Now()
		}
	}
	if next == last {
		return errs
	}
	return errors.Join(errs, c.writeRunJSON(shownFile, next))
}

// showOnCard writes the status where it says something else than what is there.
func (c *Card) showOnCard(v view, text string, last time.Time) (bool, error) {
	path := filepath.Join(c.FAT, StatusName)
	raw, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errTooLarge) {
		return false, err
	}
	text = cutTo(text, statusSize-200)
	old := strings.ReplaceAll(string(raw), "\r\n", "\n")
	body, _, _ := strings.Cut(old, writtenLine)
	if len(raw) == statusSize && strings.TrimRight(body, " \n") == strings.TrimRight(text, " \n") {
		return false, nil
	}
	since := c.Now().Sub(last)
	if secretOf(old) == secretOf(text) && !last.IsZero() && since >= 0 && since < statusPause {
		return false, nil
	}
	if v.synced {
		text += fmt.Sprintf("%s%s.\n", writtenLine, c.Now().Format("2 January 2006, 15:04"))
	}
	err = c.Host.Writable(c.FAT, func() error {
		if info, err := os.Stat(path); err == nil && info.Size() > statusSize {
			if err := c.disk.Remove(path); err != nil {
				return err
			}
		}
		return c.disk.Overwrite(path, padded(text))
	})
	return err == nil, err
}

// secretOf is the line with a password.
func secretOf(text string) string {
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, passwordLine) {
			return l
		}
	}
	return ""
}

func cutTo(s string, n int) string {
	if len(s)+strings.Count(s, "\n") <= n {
		return s
	}
	for len(s)+strings.Count(s, "\n") > n {
		s = s[:strings.LastIndexByte(s[:len(s)-1], '\n')+1]
	}
	return strings.ToValidUTF8(s, "")
}

// padded fills the file with blank lines, which every editor shows as nothing.
func padded(text string) []byte {
	b := []byte(strings.ReplaceAll(text, "\n", "\r\n"))
	for len(b)+80 <= statusSize {
		b = append(b, strings.Repeat(" ", 78)+"\r\n"...)
	}
	return append(b, strings.Repeat(" ", max(statusSize-len(b), 0))...)
}

// Lay writes the files that lie on a new card into a folder.
func Lay(dir string) error {
	var b strings.Builder
	if err := Example(&b); err != nil {
		return err
	}
	text := "pibox, the family's chat server\n===============================\n\nThis card was not started yet. Put it into the Pi: a minute later this file tells how to log in.\n"
	return errors.Join(os.WriteFile(filepath.Join(dir, FileName), []byte(b.String()), 0o644), os.WriteFile(filepath.Join(dir, StatusName), padded(text), 0o644))
}
