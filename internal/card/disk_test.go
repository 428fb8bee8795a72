package card

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := osDisk{}
	path := filepath.Join(dir, "file")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	holds := func(want string) {
		t.Helper()
		if raw, err := os.ReadFile(path); err != nil || string(raw) != want {
			t.Errorf("it holds %q, %v", raw, err)
		}
	}
	must(d.Folder(dir, 0o700))
	must(d.Folder(dir, 0o700))
	must(os.WriteFile(path+partSuffix, []byte("left by a power cut"), 0o644))
	must(d.Replace(path, []byte("one"), 0o600))
	holds("one")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before := inode(t, path)
	must(d.Overwrite(path, []byte("two two")))
	holds("two two")
	long := strings.Repeat("x", 3*sector)
	must(d.Overwrite(path, []byte(long)))
	must(d.Overwrite(path, []byte("y")))
	holds("y" + long[1:])
	if inode(t, path) != before {
		t.Error("it is another file")
	}
	for range 2 {
		must(d.Remove(path))
		must(d.Link("/one", path))
		must(d.Link("/two", path))
	}
	if to, err := os.Readlink(path); err != nil || to != "/two" {
		t.Errorf("%s, %v", to, err)
	}
	if _, err := read(path); err == nil {
		t.Error("a link is followed")
	}
	must(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	if _, err := read(filepath.Join(dir, "pipe")); err == nil {
		t.Error("a pipe is read")
	}
	must(os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxFile+1), 0o600))
	if _, err := read(filepath.Join(dir, "large")); err != errTooLarge {
		t.Errorf("%v", err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
