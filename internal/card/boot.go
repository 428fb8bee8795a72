package card

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pibox/internal/config"
)

// boot is one boot under way. What goes wrong becomes a fact and stops nothing.
type boot struct {
	*Card
	facts []Fact
	data  bool // there is a data partition
	kept  kept
	uid   int
	gid   int
}

// Boot does what is to be done before the daemon starts, and returns what went wrong. Where a fact is Failing, the daemon can not run.
func (c *Card) Boot() []Fact {
	b := &boot{Card: c}
	b.clock()
	b.try("run", os.MkdirAll(c.Run, 0o755))
	var err error
	if b.uid, b.gid, err = c.Host.Owner(); err != nil {
		b.add("system", Failing, "the system on the card is damaged: "+err.Error())
	}
	if b.data = c.Host.Mounted(c.Data); !b.data {
		b.add("data", Failing, "the card's data partition is missing or damaged, so nothing can be kept and the chat does not start. If a new start does not help, write the card anew and restore a backup.")
	}
	if b.data {
		b.try("folder", b.folder())
		b.kept, err = c.load()
		b.try("kept", err)
	}
	b.settle()
	orders := Orders{Administrator: b.kept.Settings.Administrator.Name, Password: b.kept.Password}
	if b.data {
		b.recover()
		orders.Recover = b.kept.Recover.ID
		orders.Hold = b.restore()
	}
	b.try("orders", c.writeRunJSON(ordersFile, orders))
	b.try("boot", c.writeRunJSON(bootFile, b.facts))
	return b.facts
}

func (b *boot) add(name, severity, text string) {
	b.Log.Warn("card: "+text, "fact", name)
	b.facts = append(b.facts, Fact{name, severity, line(text)})
}

func (b *boot) try(name string, err error) {
	if err != nil {
		b.add(name, Degraded, err.Error())
	}
}

// folder is the daemon's own, on a data partition that was just made.
func (b *boot) folder() error {
	dir := filepath.Dir(b.Store)
	if isThere(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, b.uid, b.gid), syncDir(filepath.Dir(dir)))
}

// clock never lets the time be before one that was: a board without a battery starts long ago.
func (b *boot) clock() {
	floor := latest(modified(b.Epoch), modified(b.Clock), modified(b.Store))
	if b.Now().Before(floor) {
		b.try("clock", b.Host.SetClock(floor))
	}
}

// settle reads the settings, takes over what is good, and makes everything of it.
func (b *boot) settle() {
	last := b.kept.Settings
	if !b.data {
		last = Defaults()
	}
	src, ok := b.find()
	if !ok {
		b.apply(last)
		return
	}
	now, taken := b.merge(src, last)
	if b.data {
		ordinary := b.ordinary(src)
		b.take(src, &now, taken)
		b.kept.Ordinary = ordinary
	}
	b.apply(now)
	if !b.data {
		return
	}
	b.kept.Settings = now
	taking, left := src.taking(func(section string) bool { return taken[section] }, b.Now())
	for _, name := range left {
		b.add("secret/"+name, Degraded, name+" could not be taken from "+filepath.Base(src.path)+": remove it there yourself")
	}
	b.kept.Blank = taking
	if err := b.save(b.kept); err != nil {
		b.add("keep", Degraded, "the settings could not be kept: "+err.Error())
		return // what is not durable stays on the card
	}
	b.blank(src, taking)
}

// find reads pibox.toml. Without it everything stays as it was.
func (b *boot) find() (source, bool) {
	if !b.Host.Mounted(b.FAT) {
		b.add("fat", Degraded, "the card's first partition, with "+FileName+", can not be read")
		return source{}, false
	}
	paths := named(b.FAT, FileName, FileName+".txt")
	if len(paths) == 0 {
		return source{}, false
	}
	slices.SortStableFunc(paths, func(x, y string) int { return modified(y).Compare(modified(x)) })
	path := paths[0]
	if len(paths) > 1 {
		b.add("two", Note, fmt.Sprintf("of %s and %s the newer one counts: %s", FileName, filepath.Base(paths[1]), filepath.Base(path)))
	}
	raw, err := read(path)
	name := filepath.Base(path)
	switch text := string(raw); {
	case err != nil:
		b.add("settings", Degraded, fmt.Sprintf("%s can not be read (%v): the settings stay as they were", name, err))
	case strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") || !utf8.ValidString(text):
		b.add("settings", Degraded, name+" is not saved as UTF-8: choose that in your editor's window for saving. The settings stay as they were")
	case strings.Trim(text, "\ufeff\x00 \t\r\n") == "":
		b.add("settings", Degraded, name+" is empty: the settings stay as they were")
	default:
		return parse(path, text, b.kept.Blank, b.Now()), true
	}
	return source{}, false
}

const maxTold = 8

// merge takes from the file what is good, section by section, and the last good settings for the rest.
func (b *boot) merge(src source, last Settings) (Settings, map[string]bool) {
	mistakes := src.file.Problems.Mistakes()
	for i, p := range src.file.Problems {
		if i == maxTold {
			b.add("settings/more", Degraded, fmt.Sprintf("and %d mistakes more", len(src.file.Problems)-i))
			break
		}
		b.add(fmt.Sprintf("settings/%d", i+1), Degraded, words(p))
	}
	now, taken := src.settings, map[string]bool{}
	section := func(name string, back func()) {
		_, written := src.file.Lines[name]
		wrong := len(mistakes) > 0 && !written
		for _, p := range mistakes {
			wrong = wrong || p.Key == name || strings.HasPrefix(p.Key, name+".")
		}
		if taken[name] = !wrong; wrong {
			back()
		}
	}
	section("domain", func() { now.Domain = last.Domain })
	section("hostname", func() { now.Hostname = last.Hostname })
	section("time_zone", func() { now.TimeZone = last.TimeZone })
	section("administrator", func() { now.Administrator = last.Administrator })
	section("wifi", func() { now.WiFi = last.WiFi })
	section("restore", func() { now.Restore = last.Restore })
	if label, ok := strings.CutSuffix(now.Domain, ".local"); ok && src.file.Lines["hostname"] == 0 && !strings.Contains(label, ".") {
		now.Hostname = label // so that the family's domain is found in the network
	}
	return now, taken
}

// words tells a problem as one sentence.
func words(p config.Problem) string {
	text := filepath.Base(p.File)
	if p.Line > 0 {
		text += fmt.Sprintf(", line %d", p.Line)
	}
	if p.Key != "" {
		text += ", " + p.Key
	}
	return text + ": " + p.Text
}

// take moves secrets to what is kept.
func (b *boot) take(src source, now *Settings, taken map[string]bool) {
	if taken["wifi"] {
		key, err := now.WiFi.key(b.kept.Key)
		switch {
		case errors.Is(err, errNoKey):
			b.add("wifi/password", Degraded, fmt.Sprintf("%s, line %d: the password of the Wi-Fi %q is missing (for one without a password: open = true)",
				filepath.Base(src.path), src.file.Lines["wifi"], now.WiFi.SSID))
			now.WiFi, taken["wifi"] = b.kept.Settings.WiFi, false
		case err != nil:
			b.add("wifi/password", Degraded, "the password of the Wi-Fi can not be used: "+err.Error())
			now.WiFi, taken["wifi"] = b.kept.Settings.WiFi, false
		default:
			b.kept.Key = key
		}
	}
	if taken["administrator"] && now.Administrator.Password != "" {
		b.kept.Password = now.Administrator.Password
	}
	if taken["restore"] && now.Restore.Passphrase != "" {
		b.kept.Passphrase = now.Restore.Passphrase
	}
}

// blank takes the secrets from the card, now that they are kept.
func (b *boot) blank(src source, taking blank) {
	if len(taking.Spans) == 0 {
		return
	}
	err := b.Host.Writable(b.FAT, func() error { return b.disk.Overwrite(src.path, []byte(without(src.text, taking.Spans))) })
	if err != nil {
		b.add("secret", Degraded, fmt.Sprintf("the passwords in %s could not be taken away (%v): remove them yourself", filepath.Base(src.path), err))
		return
	}
	b.kept.Blank = blank{}
	b.try("keep", b.save(b.kept))
}

// recover makes an order of a file that wants one. What is kept first decides, whatever becomes of the file.
func (b *boot) recover() {
	paths := named(b.FAT, "recover", "recover.txt", "recover.txt.txt")
	stamp := ""
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			stamp += fmt.Sprintln(filepath.Base(path), info.Size(), info.ModTime().Unix())
		}
	}
	if stamp != "" && stamp != b.kept.Recover.Stamp {
		b.kept.Recover = order{ID: strings.ToLower(rand.Text()), Stamp: stamp}
		if err := b.save(b.kept); err != nil {
			b.add("recover", Degraded, "a new password could not be ordered: "+err.Error())
			b.kept.Recover = order{}
			return
		}
	}
	if stamp != "" {
		err := b.Host.Writable(b.FAT, func() error {
			for _, path := range paths {
				if err := b.disk.Remove(path); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.add("recover", Degraded, "the file "+filepath.Base(paths[0])+" did its work and could not be removed: remove it yourself")
			return
		}
	}
	if b.kept.Recover.Stamp != "" {
		b.kept.Recover.Stamp = ""
		b.try("keep", b.save(b.kept))
	}
}

func modified(path string) (at time.Time) {
	if info, err := os.Stat(path); err == nil {
		return info.ModTime()
	}
	return at
}

// ensure is for what may be there already.
func ensure(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
