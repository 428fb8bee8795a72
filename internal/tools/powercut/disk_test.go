package powercut

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// probe uses a disk in a test.
type probe struct {
	*testing.T
	*Disk
}

func (p probe) ok(errno syscall.Errno) {
	p.Helper()
	if errno != 0 {
		p.Fatal(errno)
	}
}

// file makes a file whose name is durable.
func (p probe) file(name string) uint64 {
	p.Helper()
	info, errno := p.Make(Root, name, syscall.S_IFREG|0o600, 0, 0)
	p.ok(errno)
	p.ok(p.Sync(Root))
	return info.Ino
}

func (p probe) write(ino uint64, at int64, b []byte) {
	p.Helper()
	p.ok(p.WriteAt(ino, b, at, false))
}

// content of a name in the disk's root; nil where it is not there.
func (p probe) content(name string) []byte {
	p.Helper()
	info, errno := p.Lookup(Root, name)
	if errno == syscall.ENOENT {
		return nil
	}
	p.ok(errno)
	b := make([]byte, info.Size)
	n, errno := p.ReadAt(info.Ino, b, 0)
	p.ok(errno)
	return b[:n]
}

// outcomes counts what is found after power cuts under many seeds.
func outcomes(t *testing.T, prepare func(probe), found func(probe) string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for seed := range uint64(400) {
		d := New()
		prepare(probe{t, d})
		d.Cut()
		after, _ := d.Survivor(rand.New(rand.NewPCG(seed, 0)))
		all[found(probe{t, after})]++
	}
	return all
}

func expect(t *testing.T, got map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if got[w] == 0 {
			t.Errorf("never found: %q; found were %v", w, got)
		}
		delete(got, w)
	}
	if len(got) > 0 {
		t.Errorf("this can not be: %v", got)
	}
}

func sectors(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n*Sector) }

// letters is the first byte of each sector.
func letters(b []byte) string {
	var out []byte
	for at := 0; at < len(b); at += Sector {
		if b[at] == 0 {
			out = append(out, '.')
			continue
		}
		out = append(out, b[at])
	}
	return string(out)
}

func TestSyncedStays(t *testing.T) {
	got := outcomes(t, func(p probe) {
		f := p.file("f")
		p.write(f, 0, sectors('a', 3))
		p.write(f, Sector, sectors('b', 1))
		p.ok(p.Sync(f))
	}, func(p probe) string { return letters(p.content("f")) })
	expect(t, got, "aba")
}

func TestUnsyncedIsLostTornAndReordered(t *testing.T) {
	got := outcomes(t, func(p probe) {
		f := p.file("f")
		p.write(f, 0, sectors('a', 2))
		p.ok(p.Sync(f))
		p.write(f, 0, sectors('b', 2))
		p.write(f, 0, sectors('c', 1))
	}, func(p probe) string { return letters(p.content("f")) })
	// cb: both; bb: the first; ca: the second, and nothing of the first; ba, ab: half of the first
	expect(t, got, "aa", "cb", "bb", "ca", "ba", "ab")
}

// What is written to a part of a sector is written as the whole sector, with what was there in memory.
func TestSectorIsWhole(t *testing.T) {
	got := outcomes(t, func(p probe) {
		f := p.file("f")
		p.write(f, 0, []byte("old old"))
		p.ok(p.Sync(f))
		p.write(f, 0, []byte("new"))
		p.write(f, 4, []byte("new"))
	}, func(p probe) string { return string(p.content("f")) })
	expect(t, got, "old old", "new old", "new new")
}

func TestSizeAndBytesApart(t *testing.T) {
	got := outcomes(t, func(p probe) {
		f := p.file("f")
		p.write(f, 0, sectors('a', 1))
		p.ok(p.Sync(f))
		p.write(f, Sector, sectors('b', 1))
	}, func(p probe) string { return letters(p.content("f")) })
	expect(t, got, "a", "a.", "ab")
	got = outcomes(t, func(p probe) {
		f := p.file("f")
		p.write(f, 0, sectors('a', 2))
		p.ok(p.Sync(f))
		p.ok(p.Truncate(f, Sector))
		p.ok(p.Truncate(f, 3*Sector))
	}, func(p probe) string { return letters(p.content("f")) })
	expect(t, got, "aa", "a", "a..", "aa.")
}

// fsync of a file does not make its name durable, and that of the folder not its bytes.
func TestNameAndBytesApart(t *testing.T) {
	make := func(p probe, sync func(file uint64)) {
		info, errno := p.Make(Root, "f", syscall.S_IFREG|0o600, 0, 0)
		p.ok(errno)
		p.write(info.Ino, 0, sectors('a', 1))
		sync(info.Ino)
	}
	found := func(p probe) string {
		b := p.content("f")
		if b == nil {
			return "gone"
		}
		return letters(b)
	}
	got := outcomes(t, func(p probe) { make(p, func(f uint64) { p.ok(p.Sync(f)) }) }, found)
	expect(t, got, "gone", "a")
	got = outcomes(t, func(p probe) { make(p, func(uint64) { p.ok(p.Sync(Root)) }) }, found)
	expect(t, got, "", ".", "a")
}

func TestRename(t *testing.T) {
	prepare := func(p probe) {
		f, g := p.file("f"), p.file("new")
		p.write(f, 0, []byte("old"))
		p.write(g, 0, []byte("new"))
		p.ok(p.Sync(f))
		p.ok(p.Sync(g))
		p.ok(p.Rename(Root, "new", Root, "f", false))
	}
	found := func(p probe) string { return string(p.content("f")) + " " + string(p.content("new")) }
	expect(t, outcomes(t, prepare, found), "old new", "new ")
	expect(t, outcomes(t, func(p probe) {
		prepare(p)
		p.ok(p.Sync(Root))
	}, found), "new ")
}

// What is made of a file whose making is not durable, in two folders: each outcome is one that had been, or both names.
func TestRenameAcrossFolders(t *testing.T) {
	prepare := func(p probe) (folder uint64) {
		info, errno := p.Make(Root, "sub", syscall.S_IFDIR|0o700, 0, 0)
		p.ok(errno)
		p.ok(p.Sync(Root))
		f, errno := p.Make(info.Ino, "part", syscall.S_IFREG|0o600, 0, 0)
		p.ok(errno)
		p.write(f.Ino, 0, []byte("whole"))
		p.ok(p.Sync(f.Ino))
		p.ok(p.Rename(info.Ino, "part", Root, "f", false))
		return info.Ino
	}
	found := func(p probe) string {
		sub, errno := p.Lookup(Root, "sub")
		p.ok(errno)
		left, errno := p.List(sub.Ino)
		p.ok(errno)
		out := string(p.content("f"))
		for _, e := range left {
			out += " " + e.Name
		}
		return out
	}
	expect(t, outcomes(t, func(p probe) { prepare(p) }, found), "", " part", "whole")
	expect(t, outcomes(t, func(p probe) { prepare(p); p.ok(p.Sync(Root)) }, found), "whole")
}

func TestRemove(t *testing.T) {
	prepare := func(p probe) {
		f := p.file("f")
		p.write(f, 0, []byte("x"))
		p.ok(p.Sync(f))
		p.ok(p.Remove(Root, "f", false))
	}
	found := func(p probe) string { return string(p.content("f")) }
	expect(t, outcomes(t, prepare, found), "", "x")
	expect(t, outcomes(t, func(p probe) { prepare(p); p.ok(p.Sync(Root)) }, found), "")
}

// A sync that has not returned when the power is cut promises nothing, and one that begins before a write does not cover it.
func TestSyncInFlight(t *testing.T) {
	got := map[string]int{}
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			p := probe{t, New()}
			p.Latency = func() time.Duration { return time.Second }
			f := p.file("f")
			p.write(f, 0, sectors('a', 1))
			failed := make(chan syscall.Errno, 1)
			go func() { failed <- p.Sync(f) }()
			time.Sleep(time.Second / 2)
			p.write(f, Sector, sectors('b', 1))
			if seed%2 == 0 {
				p.Cut()
			}
			time.Sleep(time.Second)
			synctest.Wait()
			after, _ := p.Survivor(rand.New(rand.NewPCG(seed, 0)))
			name := "returned "
			if errno := <-failed; errno != 0 {
				name = "cut "
			}
			got[name+letters(probe{t, after}.content("f"))]++
		})
	}
	expect(t, got, "returned a", "returned a.", "returned ab", "cut ", "cut a", "cut .", "cut ..", "cut a.", "cut .b", "cut ab")
}

func TestCutStopsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := probe{t, New()}
		f := p.file("f")
		p.CutAfter(2)
		p.write(f, 0, []byte("a"))
		done := make(chan syscall.Errno, 2)
		go func() { done <- p.WriteAt(f, []byte("b"), 0, false) }()
		<-p.WhenCut()
		go func() {
			_, errno := p.ReadAt(f, make([]byte, 1), 0)
			done <- errno
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Error("an operation came to its end after the cut")
		}
		p.Release()
		for range 2 {
			if errno := <-done; errno != syscall.EIO {
				t.Errorf("errno %v", errno)
			}
		}
	})
}

// One seed, one outcome.
func TestSeed(t *testing.T) {
	one := func() string {
		p := probe{t, New()}
		for _, name := range []string{"a", "b", "c", "d"} {
			info, _ := p.Make(Root, name, syscall.S_IFREG|0o600, 0, 0)
			p.write(info.Ino, 0, sectors('x', 20))
		}
		after, toll := p.Survivor(rand.New(rand.NewPCG(7, 7)))
		out := toll.String()
		for _, name := range []string{"a", "b", "c", "d"} {
			out += " " + letters(probe{t, after}.content(name))
		}
		return out
	}
	first := one()
	for range 20 {
		if again := one(); again != first {
			t.Fatalf("once\n%s\nand then\n%s", first, again)
		}
	}
}

// Save and Load take what is durable from one process to the next.
func TestSaveAndLoad(t *testing.T) {
	p := probe{t, New()}
	f := p.file("f")
	p.write(f, 1<<17, []byte("end"))
	p.ok(p.Sync(f))
	p.write(f, 0, []byte("lost"))
	dir := filepath.Join(t.TempDir(), "disk")
	if err := p.Save(dir); err != nil {
		t.Fatal(err)
	}
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := append(make([]byte, 1<<17), "end"...)
	if got := (probe{t, d}).content("f"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %q at the end", len(got), got[max(0, len(got)-4):])
	}
	after, _ := d.Survivor(rand.New(rand.NewPCG(1, 1)))
	if got := (probe{t, after}).content("f"); !bytes.Equal(got, want) {
		t.Error("what was loaded is not durable")
	}
}

// Random changes: what is found was durable or pending, and what is seen is what was written.
func TestSeenIsWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	p := probe{t, New()}
	f := p.file("f")
	var want []byte
	for range 3000 {
		switch rng.IntN(4) {
		case 0:
			n := rng.IntN(8 * Sector)
			p.ok(p.Truncate(f, int64(n)))
			want = resized(want, n)
		case 1:
			p.ok(p.Sync(f))
		default:
			at, b := rng.IntN(6*Sector), sectors(byte('a'+rng.IntN(26)), 2)[:1+rng.IntN(2*Sector-1)]
			p.write(f, int64(at), b)
			want = resized(want, max(len(want), at+len(b)))
			copy(want[at:], b)
		}
		if got := p.content("f"); !bytes.Equal(got, want) {
			t.Fatal("it is not what was written")
		}
	}
	p.ok(p.Sync(f))
	after, _ := p.Survivor(rng)
	if got := (probe{t, after}).content("f"); !bytes.Equal(got, want) {
		t.Error("synced, and not what was written")
	}
}
