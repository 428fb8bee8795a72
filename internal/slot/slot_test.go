package slot

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The layout that u-boot's script reads: docs/updates.md.
func TestLayout(t *testing.T) {
	got := hex.EncodeToString(State{Good: B, Trial: A, Tries: 3, Generation: 0x01020304}.Encode()[:28])
	want := "5049424f58534c31" + "01000000" + "00000000" + "03000000" + "04030201" + "3edfb77d"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	good := State{Good: B, Trial: None, Generation: 7}.Encode()
	for bit := range 28 * 8 {
		sector := bytes.Clone(good)
		sector[bit/8] ^= 1 << (bit % 8)
		if s, err := Decode(sector); !errors.Is(err, ErrNoState) {
			t.Errorf("bit %d: %+v, %v", bit, s, err)
		}
	}
}

func TestTransitions(t *testing.T) {
	s := State{Good: A, Trial: None}
	s = s.Try(A, 2)
	if s != (State{Good: A, Trial: B, Tries: 2}) || s.Next() != B {
		t.Fatalf("tried: %+v", s)
	}
	if c := s.Confirm(B); c != (State{Good: B, Trial: None}) || c.Next() != B {
		t.Errorf("confirmed: %+v", c)
	}
	if g := s.GiveUp(); g != (State{Good: A, Trial: None}) || g.Next() != A {
		t.Errorf("given up: %+v", g)
	}
	if s.Tries = 0; s.Next() != A {
		t.Errorf("without a try left, %s boots", s.Next())
	}
	// u-boot took A because B could not be loaded: what runs is what is good.
	if s := (State{Good: B, Trial: None}).Try(A, 1); s.Good != A || s.Trial != B {
		t.Errorf("after a fallback: %+v", s)
	}
}

func card(t *testing.T, content []byte) Device {
	t.Helper()
	d := Device{Path: filepath.Join(t.TempDir(), "card")}
	if err := os.WriteFile(d.Path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestUpdateWritesOneSector(t *testing.T) {
	d := card(t, bytes.Repeat([]byte{0xa5}, 128*Size))
	if s, err := d.Read(); err != nil || s != (State{Good: A, Trial: None}) {
		t.Fatalf("%+v, %v", s, err)
	}
	want := State{Good: B, Trial: A, Tries: 3, Generation: 1}
	if s, err := d.Update(func(s State) State { return s.Try(B, 3) }); err != nil || s != want {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := d.Read(); err != nil || s != want {
		t.Fatalf("%+v, %v", s, err)
	}
	raw, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range raw {
		if inside := i >= Sector*Size && i < (Sector+1)*Size; !inside && b != 0xa5 {
			t.Fatalf("byte %d was written", i)
		}
	}
	if s, err := d.Update(func(s State) State { return s.Confirm(A) }); err != nil || s.Generation != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestShortCard(t *testing.T) {
	d := card(t, make([]byte, Sector*Size+100))
	if _, err := d.Read(); err == nil {
		t.Error("a card that ends in the sector was read")
	}
	if _, err := d.Update(func(s State) State { return s }); err == nil {
		t.Error("a card that ends in the sector was written")
	}
	if _, err := (Device{Path: d.Path + "-not"}).Read(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no card: %v", err)
	}
}

// machine is one with a card of which partition is the root.
func machine(t *testing.T, cmdline string, partition string, others ...string) Where {
	t.Helper()
	dir := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cmdline", cmdline+"\n")
	write("sys/devices/mmc/mmcblk0/queue/x", "")
	write("sys/devices/mmc/mmcblk0/size", "1")
	for _, n := range append(others, partition) {
		write("sys/devices/mmc/mmcblk0/mmcblk0p"+n+"/partition", n+"\n")
	}
	if err := os.MkdirAll(filepath.Join(dir, "sys/dev/block"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/mmc/mmcblk0/mmcblk0p"+partition, filepath.Join(dir, "sys/dev/block/179:9")); err != nil {
		t.Fatal(err)
	}
	return Where{Cmdline: filepath.Join(dir, "cmdline"), Sys: filepath.Join(dir, "sys"), Root: "179:9"}
}

func TestFind(t *testing.T) {
	s, err := Find(machine(t, "root=PARTUUID=1234-03 ro pibox.slot=b pibox.trial=1 quiet", "3", "1", "2", "4"))
	if err != nil || s.Running != B || !s.Trial || s.Disk.Path != "/dev/mmcblk0" ||
		s.Partition(A) != "/dev/mmcblk0p2" || s.Partition(B) != "/dev/mmcblk0p3" {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = Find(machine(t, "pibox.slot=a pibox.trial=0", "2", "3"))
	if err != nil || s.Running != A || s.Trial {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestFindRefuses(t *testing.T) {
	elsewhere := machine(t, "pibox.slot=a", "2", "3")
	elsewhere.Root = "8:1"
	for name, c := range map[string]struct {
		w   Where
		not bool // no image, in contrast to one that is not in order
	}{
		"another system":             {machine(t, "root=/dev/mmcblk0p2 ro quiet", "2", "3"), true},
		"no such slot":               {machine(t, "pibox.slot=c", "2", "3"), true},
		"root is another partition":  {machine(t, "pibox.slot=a", "3", "2"), false},
		"one slot only":              {machine(t, "pibox.slot=a", "2", "1"), true},
		"root is not on a partition": {elsewhere, true},
	} {
		if _, err := Find(c.w); err == nil || errors.Is(err, ErrNotImage) != c.not {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(State{Good: A, Trial: None}.Encode())
	f.Add(State{Good: B, Trial: A, Tries: 3, Generation: 9}.Encode())
	f.Add(make([]byte, Size))
	f.Fuzz(func(t *testing.T, sector []byte) {
		s, err := Decode(sector)
		if err != nil {
			return
		}
		if s.Good != A && s.Good != B || s.Trial == None && s.Tries != 0 || s.Next() == None {
			t.Errorf("%+v", s)
		}
		if again, err := Decode(s.Encode()); err != nil || again != s {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}
