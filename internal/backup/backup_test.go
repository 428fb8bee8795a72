package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"pibox/internal/store"
)

var taken = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// keep is a sink that keeps everything.
type keep map[string]string

func (k keep) Begin(Manifest) error { return nil }

func (k keep) Entry(part, name string, _ int64, r *bufio.Reader) error {
	data, err := io.ReadAll(r)
	k[joinName(part, name)] = string(data)
	return err
}

// aBox has a store, certificates and a configuration.
func aBox(t testing.TB) (dir string, st *store.Store) {
	t.Helper()
	dir = t.TempDir()
	st, err := store.Open(filepath.Join(dir, "pibox.db"), store.Options{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Update(func(tx *store.Tx) error {
		store.Accounts.Put(tx, "juliet@capulet.example", store.Account{Created: taken})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"tls/authority.pem": "certificate", "tls/authority.key": "key", "tls/.new-1": "half", "pibox.toml": "language = \"de\"\n"} {
		if err := os.MkdirAll(filepath.Join(dir, "tls"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, st
}

func write(t testing.TB, w io.Writer) Manifest {
	t.Helper()
	dir, st := aBox(t)
	var m Manifest
	if err := st.Snapshot(func(sn store.Snapshot) (err error) {
		m, err = Write(w, Manifest{Version: "test", Schema: 2, Taken: taken, Domains: []string{"capulet.example"}, Accounts: 1}, []Part{
			Database(sn), Folder(PartTLS, filepath.Join(dir, "tls")), File(PartConfiguration, "", filepath.Join(dir, "pibox.toml")),
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

func sealed(t testing.TB, lock Lock) ([]byte, *Seal) {
	t.Helper()
	var file bytes.Buffer
	s, err := NewSeal(&file, lock)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), s
}

func open(t testing.TB, file []byte, keys *Keys) (keep, error) {
	t.Helper()
	s, err := Open(bytes.NewReader(file), keys)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	have := keep{}
	if s.Kind != KindStream {
		return nil, fmt.Errorf("kind %d: %w", s.Kind, ErrDamaged)
	}
	_, _, err = Read(s, have)
	return have, err
}

func TestEveryKindOfLock(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	other, _ := age.GenerateX25519Identity()
	phrase := func(s string) func() (string, error) { return func() (string, error) { return s, nil } }
	for name, c := range map[string]struct {
		lock        Lock
		good, wrong *Keys
		words       string
	}{
		"pass phrase": {
			Lock{Passphrase: "correct horse", Work: 10}, &Keys{Passphrase: phrase("correct horse")}, &Keys{Passphrase: phrase("battery")}, "the pass phrase is wrong",
		},
		"none given": {Lock{Passphrase: "correct horse", Work: 10}, &Keys{Passphrase: phrase("correct horse")}, &Keys{}, "needs its pass phrase"},
		"recipient": {
			Lock{Recipients: []age.Recipient{other.Recipient(), id.Recipient()}}, &Keys{Identities: []age.Identity{id}},
			&Keys{Identities: []age.Identity{pq}}, "for other keys than the given",
		},
		"no identity": {Lock{Recipients: []age.Recipient{id.Recipient()}}, &Keys{Identities: []age.Identity{id}}, &Keys{Passphrase: phrase("x")}, "needs the identity"},
		"hybrid":      {Lock{Recipients: []age.Recipient{pq.Recipient()}}, &Keys{Identities: []age.Identity{pq}}, &Keys{Identities: []age.Identity{id}}, "for other keys"},
		"none":        {lock: Lock{}, good: &Keys{}},
	} {
		t.Run(name, func(t *testing.T) {
			file, s := sealed(t, c.lock)
			for _, keys := range []*Keys{c.good, s.Key()} {
				have, err := open(t, file, keys)
				if err != nil {
					t.Fatal(err)
				}
				if have["tls/authority.key"] != "key" || have["configuration"] != "language = \"de\"\n" || have["database/000000"] == "" || len(have) != 4 {
					t.Errorf("%v", have)
				}
			}
			if c.wrong == nil {
				return
			}
			if _, err := open(t, file, c.wrong); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%v", err)
			}
		})
	}
	mine := errors.New("interrupted")
	file, _ := sealed(t, Lock{Passphrase: "x", Work: 10})
	if _, err := open(t, file, &Keys{Passphrase: func() (string, error) { return "", mine }}); !errors.Is(err, mine) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// Wherever a file is cut off or changed, it is noticed.
func TestDamage(t *testing.T) {
	id, _ := age.GenerateX25519Identity()
	for name, lock := range map[string]Lock{"encrypted": {Recipients: []age.Recipient{id.Recipient()}}, "plain": {}} {
		file, _ := sealed(t, lock)
		keys := &Keys{Identities: []age.Identity{id}}
		whole, err := open(t, file, keys)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, file []byte) {
			have, err := open(t, file, keys)
			if name == "plain" && strings.HasPrefix(what, "byte") && err == nil && cmp.Equal(have, whole) {
				return // zstd has bits that mean nothing; what was read is right
			}
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrKey) {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
		for n := range len(file) {
			if n%41 == 0 || n > len(file)-20 {
				try(fmt.Sprintf("cut to %d of %d", n, len(file)), file[:n])
			}
		}
		for n := 0; n < len(file); n += 13 {
			bad := bytes.Clone(file)
			bad[n] ^= 0x20
			try(fmt.Sprintf("byte %d of %d", n, len(file)), bad)
		}
		try("something behind", append(bytes.Clone(file), make([]byte, 2<<20)...))
	}
}

// file is an entry of a tar stream that somebody else made.
type file struct {
	name, text string
	kind       byte
	size       int64 // instead of the text's
}

func hostile(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: tar.TypeReg, Size: int64(len(f.text)), Mode: 0o4777, Linkname: ""}
		if f.kind != 0 {
			h.Typeflag, h.Linkname = f.kind, "/etc/passwd"
		}
		if f.size != 0 {
			h.Size = f.size
		}
		_ = w.WriteHeader(h)
		_, _ = io.WriteString(w, f.text)
	}
	if err := w.Close(); err != nil {
		_ = w.Flush()
	}
	return b.Bytes()
}

func manifest(edit func(*Manifest)) file {
	m := Manifest{Format: 1, Version: "evil", Schema: 2, Size: 1000}
	if edit != nil {
		edit(&m)
	}
	raw, _ := json.Marshal(m)
	return file{name: manifestName, text: string(raw)}
}

func TestHostile(t *testing.T) {
	none := file{name: contentsName, text: "{}"}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing in it":       {hostile(manifest(nil), none), nil},
		"newer":               {hostile(manifest(func(m *Manifest) { m.Format = 2 })), ErrNewer},
		"no format":           {hostile(manifest(func(m *Manifest) { m.Format = 0 })), ErrDamaged},
		"no manifest":         {hostile(none), ErrDamaged},
		"manifest is no JSON": {hostile(file{name: manifestName, text: "<manifest/>"}), ErrDamaged},
		"manifest too large":  {hostile(file{name: manifestName, size: 1 << 40}), ErrDamaged},
		"no contents":         {hostile(manifest(nil), file{name: "tls/a.pem"}), ErrDamaged},
		"not listed":          {hostile(manifest(nil), file{name: "tls/a.pem"}, none), ErrDamaged},
		"path up":             {hostile(manifest(nil), file{name: "tls/../../etc/passwd"}, none), ErrDamaged},
		"absolute":            {hostile(manifest(nil), file{name: "/tls/x"}, none), ErrDamaged},
		"folder in folder":    {hostile(manifest(nil), file{name: "tls/a/b"}, none), ErrDamaged},
		"dot":                 {hostile(manifest(nil), file{name: "tls/."}, none), ErrDamaged},
		"two dots":            {hostile(manifest(nil), file{name: "tls/.."}, none), ErrDamaged},
		"unclean":             {hostile(manifest(nil), file{name: "tls//x"}, none), ErrDamaged},
		"unknown part":        {hostile(manifest(nil), file{name: "ssh/authorized_keys"}, none), ErrDamaged},
		"part as a file":      {hostile(manifest(nil), file{name: "tls"}, none), ErrDamaged},
		"symbolic link":       {hostile(manifest(nil), file{name: "tls/x", kind: tar.TypeSymlink}, none), ErrDamaged},
		"hard link":           {hostile(manifest(nil), file{name: "tls/x", kind: tar.TypeLink}, none), ErrDamaged},
		"device":              {hostile(manifest(nil), file{name: "tls/x", kind: tar.TypeBlock}, none), ErrDamaged},
		"folder":              {hostile(manifest(nil), file{name: "tls/x", kind: tar.TypeDir}, none), ErrDamaged},
		"twice":               {hostile(manifest(nil), file{name: "tls/x"}, file{name: "tls/x"}, none), ErrDamaged},
		"out of order":        {hostile(manifest(nil), file{name: "database/000001"}, file{name: "database/000000"}, none), ErrDamaged},
		"more than announced": {hostile(manifest(nil), file{name: "tls/x", text: strings.Repeat("x", 1001)}, none), ErrDamaged},
		"huge":                {hostile(manifest(func(m *Manifest) { m.Size = 1 << 62 }), file{name: "tls/x", size: 1 << 61}), ErrDamaged},
		"text":                {[]byte("This is no backup."), ErrDamaged},
		"empty":               {nil, ErrDamaged},
	} {
		if _, _, err := Read(bytes.NewReader(c.data), keep{}); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bomb is a manifest and then zeros without end.
type bomb struct {
	head io.Reader
	read int64
}

func (b *bomb) Read(p []byte) (int, error) {
	n, err := b.head.Read(p)
	if errors.Is(err, io.EOF) {
		clear(p)
		n, err = len(p), nil
	}
	b.read += int64(n)
	return n, err
}

// What is small and becomes large is read no further than it announced, and what it announced is refused by whoever has no room.
func TestBomb(t *testing.T) {
	head := hostile(manifest(nil), file{name: "database/000000", size: 1000})
	in := &bomb{head: bytes.NewReader(head[:2048])}
	if _, _, err := Read(in, keep{}); !errors.Is(err, ErrDamaged) || in.read > 4<<20 {
		t.Errorf("%v after %d bytes", err, in.read)
	}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(head[:1024])
	_, _ = w.Write(make([]byte, 100<<20))
	_ = w.Close()
	if _, err := open(t, packed.Bytes(), &Keys{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a window of 64 MiB: %v", err)
	}
}

// A list of contents that says more than there was is not read into memory.
func TestEndlessContents(t *testing.T) {
	for name, list := range map[string]string{
		"entries":        `{"entries":[` + strings.Repeat("{},", 5_000_000) + "{}]}",
		"something else": `{"x":[` + strings.Repeat("{},", 5_000_000) + "{}]}",
		"spaces":         strings.Repeat(" ", 15_000_000) + "{}",
	} {
		data := hostile(manifest(nil), file{name: contentsName, text: list})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Read(bytes.NewReader(data), nowhere{})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrDamaged) || used > 4<<20 {
			t.Errorf("%s: %v, with %d MiB", name, err, used>>20)
		}
	}
	for list, want := range map[string]error{
		`{"entries":null}`: nil, `{"entries":[]}`: nil, `{"later":{"a":[1]},"entries":[]}`: nil, "null": nil,
		`{"entries":[]}{}`: ErrDamaged, `{"entries":{}}`: ErrDamaged, `[]`: ErrDamaged, `{"entries":[`: ErrDamaged, "": ErrDamaged, `{"entries":[{}]}`: ErrDamaged,
	} {
		if _, _, err := Read(bytes.NewReader(hostile(manifest(nil), file{name: contentsName, text: list})), nowhere{}); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// What a pass phrase may take to be tried depends on the machine: a small one would be ended by the kernel.
func TestMaxWork(t *testing.T) {
	for memory, want := range map[uint64]int{0: 18, 512 << 20: 18, 1 << 30: 19, 1<<30 - 1: 18, 2 << 30: 20, 64 << 30: 20} {
		if got := maxWork(memory); got != want {
			t.Errorf("%d MiB: %d instead of %d", memory>>20, got, want)
		}
	}
}

func TestManifestTellsWhatIsIn(t *testing.T) {
	var b bytes.Buffer
	want := write(t, &b)
	have, told, err := Verify(&b)
	if err != nil || !cmp.Equal(want, have) {
		t.Errorf("%v %s", err, cmp.Diff(want, have))
	}
	total := int64(0)
	for _, e := range told.Entries {
		total += e.Size
	}
	if len(told.Entries) != 4 || total > have.Size || told.Entries[0].Name != "configuration" && told.Entries[0].Name != "database/000000" {
		t.Errorf("%+v of %d", told, have.Size)
	}
}

// small is a stream without a store, whose goroutines would disturb the fuzzer.
func small(t testing.TB) []byte {
	var b bytes.Buffer
	part := Part{"all", func() (int64, error) { return 1000, nil }, func(w *Writer) error {
		return errors.Join(w.Bytes(PartConfiguration, "", []byte("language")), w.Bytes(PartDatabase, "000000", []byte("T\x04meta\x00")), w.Bytes(PartTLS, "a.pem", nil))
	}}
	if _, err := Write(&b, Manifest{Version: "test", Taken: taken}, []Part{part}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever a stream is, it is refused or it holds what it lists, within what it announced.
func FuzzRead(f *testing.F) {
	f.Add(small(f))
	f.Add(hostile(manifest(nil), file{name: "tls/x"}, file{name: contentsName, text: "{}"}))
	f.Add(hostile(manifest(nil), file{name: "tls/x", kind: tar.TypeSymlink}))
	f.Fuzz(func(t *testing.T, data []byte) {
		have := keep{}
		m, told, err := Read(bytes.NewReader(data), have)
		if err != nil {
			return
		}
		total := int64(0)
		for _, e := range told.Entries {
			if int64(len(have[e.Name])) != e.Size || strings.Contains(e.Name, "..") {
				t.Errorf("%+v", e)
			}
			total += e.Size
		}
		if total > m.Size || len(have) != len(told.Entries) {
			t.Errorf("%d bytes of %d, %d entries of %d", total, m.Size, len(told.Entries), len(have))
		}
	})
}

func FuzzOpen(f *testing.F) {
	var plain bytes.Buffer
	seal, err := NewSeal(&plain, Lock{})
	if err != nil {
		f.Fatal(err)
	}
	_, err = seal.Write(small(f))
	if err := errors.Join(err, seal.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Add([]byte(ageMagic + "-> scrypt AAAA 25\nAAAA\n--- AAAA\n"))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Open(bytes.NewReader(data), &Keys{})
		if err != nil {
			return
		}
		defer s.Close()
		_, _, _ = Verify(s)
	})
}
