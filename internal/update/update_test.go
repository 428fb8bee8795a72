package update

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pibox/internal/admin"
)

const (
	testChunk = 16 << 10
	testSize  = 10*testChunk + 4096 // the last chunk is short
)

// testKey is always the same one for a number.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func trusting(n byte) []ed25519.PublicKey {
	return []ed25519.PublicKey{testKey(99).Public().(ed25519.PublicKey), testKey(n).Public().(ed25519.PublicKey)}
}

// image is a slot's content: some chunks can be packed, some are random, one is empty.
func image(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	img := make([]byte, testSize)
	for i := range img {
		switch (i / testChunk) % 3 {
		case 0:
			img[i] = byte(r.Uint32())
		case 1:
			img[i] = byte(i>>8) ^ byte(seed)
		}
	}
	return img
}

func manifest(release int64) Manifest {
	return Manifest{Arch: runtime.GOARCH, Version: "v" + string(rune('0'+release%10)), Release: release, ChunkSize: testChunk}
}

// file is an update file of an image.
func file(t testing.TB, img []byte, m Manifest, key ed25519.PrivateKey) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Make(&out, bytes.NewReader(img), int64(len(img)), m, key); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func saved(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pibox-1.update")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// memory is a slot in memory.
type memory struct {
	b     []byte
	syncs int
	wrote int64
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }
func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.wrote += int64(len(p))
	return copy(m.b[at:], p), nil
}
func (m *memory) Size() int64 { return int64(len(m.b)) }
func (m *memory) Sync() error { m.syncs++; return nil }

func TestMakeAndInstall(t *testing.T) {
	img := image(1)
	content := file(t, img, manifest(5), testKey(1))
	if again := file(t, img, manifest(5), testKey(1)); !bytes.Equal(content, again) {
		t.Error("the same input gave other bytes")
	}
	o, err := Open(t.Context(), saved(t, content), trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	to := &memory{b: bytes.Repeat([]byte{7}, testSize+5000)} // a slot may be larger
	var last Progress
	if err := install(t.Context(), o.Manifest, o.Stream, to, func(p Progress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(to.b[:testSize], img) || !bytes.Equal(to.b[testSize:], bytes.Repeat([]byte{7}, 5000)) {
		t.Error("the slot holds something else")
	}
	if last.Step != StepVerify || last.Total != testSize {
		t.Errorf("progress ended with %+v", last)
	}
}

// What the slot has already is not written again: a second run goes on where a cut ended the first.
func TestInstallWritesOnlyWhatDiffers(t *testing.T) {
	img := image(1)
	path := saved(t, file(t, img, manifest(5), testKey(1)))
	slot := bytes.Clone(img)
	slot[3*testChunk+77] ^= 1
	to := &memory{b: slot}
	o, err := Open(t.Context(), path, trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	if err := install(t.Context(), o.Manifest, o.Stream, to, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(slot, img) {
		t.Error("the slot holds something else")
	}
	if want := int64(2*testChunk + blockSize); to.wrote != want {
		t.Errorf("%d bytes written, want %d: the chunk that differs, the first one, and its first block before", to.wrote, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	content := file(t, image(1), manifest(5), testKey(1))
	flip := func(at int) []byte {
		c := bytes.Clone(content)
		c[at] ^= 1
		return c
	}
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"empty":                    {nil, errNotSigned},
		"another file":             {[]byte(strings.Repeat("hello", 100)), errNotSigned},
		"another key":              {file(t, image(1), manifest(5), testKey(2)), errNotSigned},
		"a changed manifest":       {flip(40), errNotSigned},
		"a changed length":         {flip(8), errNotSigned},
		"a huge manifest":          {flip(11), errNotSigned},
		"cut in the manifest":      {content[:200], errTruncated},
		"cut in the chunks":        {content[:len(content)-1], errTruncated},
		"something behind the end": {append(bytes.Clone(content), 0), errTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Open(t.Context(), saved(t, c.content), trusting(1)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if _, err := Open(t.Context(), saved(t, content), nil); !errors.Is(err, errNotSigned) {
		t.Errorf("a box without keys: %v", err)
	}
	if _, err := Open(t.Context(), t.TempDir(), trusting(1)); err == nil {
		t.Error("a folder was opened")
	}
}

// A chunk that is not the signed one is not unpacked, and the slot keeps no superblock.
func TestInstallRefusesAChangedChunk(t *testing.T) {
	content := file(t, image(1), manifest(5), testKey(1))
	content[len(content)-100] ^= 1
	o, err := Open(t.Context(), saved(t, content), trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	to := &memory{b: image(2)}
	if err := install(t.Context(), o.Manifest, o.Stream, to, nil); !errors.Is(err, errTruncated) {
		t.Errorf("%v", err)
	}
	if !allZero(to.b[:blockSize]) {
		t.Error("the slot looks as if it could be loaded")
	}
}

func TestInstallRefusesASmallSlot(t *testing.T) {
	o, err := Open(t.Context(), saved(t, file(t, image(1), manifest(5), testKey(1))), trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	to := &memory{b: make([]byte, testSize-4096)}
	if err := install(t.Context(), o.Manifest, o.Stream, to, nil); err == nil || to.wrote > 0 {
		t.Errorf("%v, %d bytes written", err, to.wrote)
	}
}

// liar is a worn-out card: it forgets a write.
type liar struct{ *memory }

func (l liar) WriteAt(p []byte, at int64) (int, error) {
	if at == 3*testChunk {
		return len(p), nil
	}
	return l.memory.WriteAt(p, at)
}

func TestInstallFindsWhatTheCardForgets(t *testing.T) {
	o, err := Open(t.Context(), saved(t, file(t, image(1), manifest(5), testKey(1))), trusting(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close() }()
	to := liar{&memory{b: image(2)}}
	if err := install(t.Context(), o.Manifest, o.Stream, to, nil); err == nil || !strings.Contains(err.Error(), errUnlike.Error()) {
		t.Errorf("%v", err)
	}
	if !allZero(to.b[:blockSize]) {
		t.Error("the slot looks as if it could be loaded")
	}
}

func TestFits(t *testing.T) {
	const day = 86400
	m := Manifest{Arch: runtime.GOARCH, Version: "1.2", Release: 200 * day}
	other, stone := m, m
	other.Arch = "z80"
	stone.From = 150 * day
	for name, c := range map[string]struct {
		m         Manifest
		have      int64
		downgrade bool
		code      admin.Code
	}{
		"newer":                    {m: m, have: 100 * day},
		"the same":                 {m: m, have: 200 * day, code: admin.CodeExists},
		"the same again, by root":  {m: m, have: 200 * day, downgrade: true},
		"older":                    {m: m, have: 300 * day, code: admin.CodeInvalid},
		"older, by root":           {m: m, have: 300 * day, downgrade: true},
		"for another computer":     {m: other, have: 100 * day, downgrade: true, code: admin.CodeInvalid},
		"with a version between":   {m: stone, have: 100 * day, code: admin.CodeInvalid},
		"from the version between": {m: stone, have: 150 * day},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.m.Fits(Installed{Version: "1.1", Release: c.have}, c.downgrade)
			var known *admin.Error
			if errors.As(err, &known) != (c.code != "") || known != nil && known.Code != c.code {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	private, public, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivate("# mine\n" + private)
	if err != nil || Public(key) != public {
		t.Fatalf("%v", err)
	}
	keys, err := ParsePublic("# old\n" + publicLine(trusting(1)[0]) + "\n# new\n" + public)
	if err != nil || len(keys) != 2 || !keys[1].Equal(key.Public()) {
		t.Errorf("%v, %v", keys, err)
	}
	for _, bad := range []string{"", public, private + private, "PIBOX-UPDATE-SECRET-KEY AAAA\n"} {
		if _, err := ParsePrivate(bad); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ParsePublic(private); err == nil || strings.Contains(err.Error(), strings.Fields(private)[1]) {
		t.Errorf("a secret key among the public ones: %v", err)
	}
}

// What reads bytes from strangers: with any key, and signed.
func FuzzReadManifest(f *testing.F) {
	good := file(f, image(1), manifest(5), testKey(1))
	f.Add(good[:2000])
	f.Add([]byte(magic))
	keys := trusting(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := readManifest(bytes.NewReader(b), keys); err == nil && !bytes.HasPrefix(good, b[:min(len(b), 64)]) {
			t.Error("something was taken for signed")
		}
	})
}

// FuzzInstall signs whatever manifest there is: whoever has the key can still only fill the slot.
func FuzzInstall(f *testing.F) {
	f.Add([]byte(`{"format":1}`), []byte("x"))
	good := file(f, image(1)[:2*testChunk], manifest(5), testKey(1))
	n := int(good[8]) | int(good[9])<<8
	f.Add(good[12:12+n], good[12+n+ed25519.SignatureSize:])
	f.Fuzz(func(t *testing.T, raw, chunks []byte) {
		head := append([]byte(magic), byte(len(raw)), byte(len(raw)>>8), byte(len(raw)>>16), 0)
		head = append(head, raw...)
		signed := append(head, ed25519.Sign(testKey(1), head)...)
		m, err := readManifest(bytes.NewReader(signed), trusting(1))
		if err != nil || m.Size > 1<<20 {
			return
		}
		to := &memory{b: make([]byte, m.Size+100)}
		if install(context.Background(), m, nopSkip{bytes.NewReader(chunks)}, to, nil) == nil && !allZero(to.b[m.Size:]) {
			t.Error("written behind the end")
		}
	})
}

type nopSkip struct{ io.Reader }

func (s nopSkip) Skip(n int64) error { _, err := io.CopyN(io.Discard, s, n); return err }
func (nopSkip) Close() error         { return nil }
