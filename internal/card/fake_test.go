package card

import (
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// board is a card in a machine that is not there.
type board struct {
	*Card
	t         *testing.T
	hostname  string
	clock     time.Time // set by the card
	screen    string
	screens   int
	writable  int // times that the FAT partition was
	inside    bool
	readOnly  bool // the FAT partition can not be written
	noData    bool
	stick     string
	addresses []string
	up        time.Duration
	now       time.Time
}

func newBoard(t *testing.T) *board {
	t.Helper()
	root := t.TempDir()
	b := &board{t: t, addresses: []string{"192.0.2.7"}, up: time.Minute, now: time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)}
	p := Place{
		FAT: filepath.Join(root, "fat"), Data: filepath.Join(root, "data"), Store: filepath.Join(root, "data", "pibox", "pibox.db"),
		Run: filepath.Join(root, "run"), Daemon: filepath.Join(root, "daemon"), Zones: filepath.Join(root, "zones"),
		Epoch: filepath.Join(root, "epoch"), Clock: filepath.Join(root, "clock"), Control: filepath.Join(root, "control"), Synced: filepath.Join(root, "synced"),
	}
	for _, dir := range []string{p.FAT, p.Data, p.Daemon, filepath.Join(p.Zones, "Europe"), filepath.Join(p.Zones, "Etc")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.put(filepath.Join(p.Zones, "Europe", "Berlin"), "TZif")
	b.put(filepath.Join(p.Zones, "Etc", "UTC"), "TZif")
	b.Card = New(p, b, slog.New(slog.DiscardHandler))
	b.Now = func() time.Time { return b.now }
	return b
}

func (b *board) Mounted(dir string) bool { return dir != b.Data || !b.noData }

func (b *board) Writable(_ string, f func() error) error {
	if b.readOnly {
		return errors.New("read-only file system")
	}
	b.writable++
	b.inside = true
	defer func() { b.inside = false }()
	return f()
}

func (b *board) SetHostname(name string) error    { b.hostname = name; return nil }
func (b *board) SetClock(t time.Time) error       { b.clock = t; return nil }
func (b *board) Screen(text string) error         { b.screen, b.screens = text, b.screens+1; return nil }
func (b *board) Stick() (string, error)           { return b.stick, nil }
func (b *board) Owner() (uid, gid int, err error) { return os.Getuid(), os.Getgid(), nil }
func (b *board) Addresses() []string              { return b.addresses }
func (b *board) Uptime() time.Duration            { return b.up }

func (b *board) put(path, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// onFAT puts a file onto the card's first partition, as a computer does.
func (b *board) onFAT(name, text string) {
	b.t.Helper()
	b.put(filepath.Join(b.FAT, name), text)
}

func (b *board) get(path string) string {
	b.t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(raw)
}

func (b *board) fat(name string) string { return b.get(filepath.Join(b.FAT, name)) }

// restart is a new boot: what was in memory is gone.
func (b *board) restart() []Fact {
	b.t.Helper()
	for _, dir := range []string{b.Run, b.Daemon} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
			b.t.Fatal(err)
		}
	}
	return b.Boot()
}

func (b *board) orders() Orders {
	b.t.Helper()
	o, err := ReadOrders(b.Run)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// texts are the facts as a person reads them.
func texts(list []Fact) string {
	var lines []string
	for _, f := range list {
		lines = append(lines, f.Severity+": "+f.Text)
	}
	return strings.Join(lines, "\n")
}

// cut is a power cut.
type cut struct{}

// cutDisk cuts the power within its n-th change, which is then done, not done, or half done.
type cutDisk struct {
	disk
	n    int
	rand *rand.Rand
	seen []string
}

func (d *cutDisk) step(name string, half func()) {
	d.seen = append(d.seen, name)
	if len(d.seen) != d.n {
		return
	}
	half()
	panic(cut{})
}

func (d *cutDisk) Replace(path string, data []byte, mode fs.FileMode) error {
	d.step("replace "+filepath.Base(path), func() {
		if d.rand.IntN(2) == 0 {
			_ = os.WriteFile(path+partSuffix, data[:d.rand.IntN(len(data)+1)], mode)
			return
		}
		_ = d.disk.Replace(path, data, mode)
	})
	return d.disk.Replace(path, data, mode)
}

func (d *cutDisk) Link(target, path string) error {
	d.step("link "+filepath.Base(path), func() {
		if d.rand.IntN(2) == 0 {
			_ = d.disk.Link(target, path)
		}
	})
	return d.disk.Link(target, path)
}

func (d *cutDisk) Overwrite(path string, data []byte) error {
	d.step("overwrite "+filepath.Base(path), func() {
		old, err := os.ReadFile(path)
		if err != nil {
			old = nil
		}
		mixed := append([]byte{}, data...)
		for at := 0; at < len(mixed); at += sector {
			if d.rand.IntN(2) == 0 { // this one stays as it was
				end := min(at+sector, len(mixed))
				clear(mixed[at:end])
				copy(mixed[at:end], old[min(at, len(old)):min(end, len(old))])
			}
		}
		if len(old) > len(mixed) {
			mixed = append(mixed, old[len(mixed):]...)
		}
		_ = os.WriteFile(path, mixed, 0o644)
	})
	return d.disk.Overwrite(path, data)
}

func (d *cutDisk) Remove(path string) error {
	if !isThere(path) {
		return nil
	}
	d.step("remove "+filepath.Base(path), func() {
		if d.rand.IntN(2) == 0 {
			_ = d.disk.Remove(path)
		}
	})
	return d.disk.Remove(path)
}

// untilCut boots and tells whether the power was cut at the n-th change.
func (b *board) untilCut(n int, seed uint64, run func()) (wasCut bool) {
	d := &cutDisk{disk: osDisk{}, n: n, rand: rand.New(rand.NewPCG(seed, uint64(n)))}
	b.disk = d
	defer func() {
		b.disk = osDisk{}
		if r := recover(); r != nil {
			if _, ok := r.(cut); !ok {
				panic(r)
			}
			wasCut = true
		}
	}()
	run()
	return false
}
