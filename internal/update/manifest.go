// Package update reads, writes and installs signed update files of the card's system: a whole root slot, compressed, in chunks.
//
// A file is: 8 bytes "PIBOXUP1"; the manifest's length as 4 bytes, least significant first; the manifest (JSON); an Ed25519
// signature of all that, of 64 bytes; then the chunks. Nothing is looked at before the signature was verified, and no chunk is
// unpacked before its SHA-256 was found to be the manifest's. docs/updates.md describes the format and how it is installed.
package update

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"pibox/internal/admin"
)

const (
	magic = "PIBOXUP1"
	// System is the kind of system that the files are for.
	System = "pibox-card"
	format = 1

	maxManifest = 4 << 20 // bytes
	maxChunk    = 4 << 20
	maxSize     = 64 << 30
	blockSize   = 4096
	// packedSlack is how much longer than its content a packed chunk can be.
	packedSlack = 64 << 10
)

// Manifest describes an update.
type Manifest struct {
	Format int    `json:"format"`
	System string `json:"system"`
	Arch   string `json:"arch"` // as Go calls it
	// Version is for people; Release orders versions: the time of the sources, in seconds since 1970. A box takes only a higher one than it has.
	Version string `json:"version"`
	Release int64  `json:"release"`
	// From is the lowest release that may be updated to this one at once.
	From int64 `json:"from,omitempty"`
	// Size of the slot's image in bytes, cut into chunks of ChunkSize, the last of which may be shorter.
	Size      int64   `json:"size"`
	ChunkSize int     `json:"chunk_size"`
	Chunks    []Chunk `json:"chunks"`
}

// Chunk is a part of the image.
type Chunk struct {
	SHA256 Digest `json:"sha256"`
	// Packed is its length in the file, as one frame of zstd. 0: it is all zeros, and not in the file.
	Packed       int    `json:"packed"`
	PackedSHA256 Digest `json:"packed_sha256,omitzero"`
}

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return errors.New("it is no SHA-256")
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// Digest names the update: no two have the same.
func (m Manifest) Digest() Digest {
	raw, err := json.Marshal(m)
	if err != nil {
		return Digest{}
	}
	return sha256.Sum256(raw)
}

// Packed is how many bytes the chunks take in the file.
func (m Manifest) Packed() (n int64) {
	for _, c := range m.Chunks {
		n += int64(c.Packed)
	}
	return n
}

// Date tells when its sources were made.
func (m Manifest) Date() time.Time { return time.Unix(m.Release, 0).UTC() }

// length of the content of chunk i.
func (m Manifest) length(i int) int {
	return int(min(int64(m.ChunkSize), m.Size-int64(i)*int64(m.ChunkSize)))
}

func (m Manifest) check() error {
	switch {
	case m.Format != format || m.System != System:
		return admin.Errorf(admin.CodeInvalid, "this update is for another kind of system (%s, format %d)", m.System, m.Format)
	case m.ChunkSize < blockSize || m.ChunkSize > maxChunk || m.ChunkSize%blockSize != 0,
		m.Size <= 0 || m.Size > maxSize || m.Size%blockSize != 0,
		int64(len(m.Chunks)) != (m.Size+int64(m.ChunkSize)-1)/int64(m.ChunkSize),
		m.Release <= 0, m.Version == "" || len(m.Version) > 100:
		return errBroken
	}
	for _, c := range m.Chunks {
		if c.Packed < 0 || c.Packed > m.ChunkSize+packedSlack {
			return errBroken
		}
	}
	return nil
}

var (
	errBroken = admin.Errorf(admin.CodeInvalid, "the update file contradicts itself").Then("It was signed, but made wrongly: tell whoever made it.")
	// errNotSigned is all that is said of a file that is not from us.
	errNotSigned = admin.Errorf(admin.CodeInvalid, "this is no update file that this box trusts: it is not signed by any of its keys").
			Then("Take a file from where this box came from. Nothing was changed.")
	errTruncated = admin.Errorf(admin.CodeInvalid, "the update file is damaged or incomplete").Then("Fetch it again. Nothing of it is used.")
)

// readManifest reads the beginning of a file and verifies its signature. Errors are *admin.Error, or those of reading.
func readManifest(r io.Reader, keys []ed25519.PublicKey) (Manifest, error) {
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return Manifest{}, ended(err, errNotSigned)
	}
	n := binary.LittleEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || n > maxManifest {
		return Manifest{}, errNotSigned
	}
	signed := make([]byte, len(head)+int(n)+ed25519.SignatureSize)
	copy(signed, head)
	if _, err := io.ReadFull(r, signed[len(head):]); err != nil {
		return Manifest{}, ended(err, errTruncated)
	}
	signature := signed[len(head)+int(n):]
	signed = signed[:len(head)+int(n)]
	if !signedByOne(signed, signature, keys) {
		return Manifest{}, errNotSigned
	}
	var m Manifest
	dec := json.NewDecoder(strings.NewReader(string(signed[len(head):])))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, errBroken
	}
	return m, m.check()
}

func signedByOne(message, signature []byte, keys []ed25519.PublicKey) bool {
	for _, k := range keys {
		if len(k) == ed25519.PublicKeySize && ed25519.Verify(k, message, signature) {
			return true
		}
	}
	return false
}

// ended turns the end of a file into what it means.
func ended(err error, means *admin.Error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return means
	}
	return err
}

// Installed describes the system that runs.
type Installed struct {
	Version string
	Release int64
}

// Fits tells why an update can not be installed here: *admin.Error.
func (m Manifest) Fits(have Installed, downgrade bool) error {
	switch {
	case m.Arch != runtime.GOARCH:
		return admin.Errorf(admin.CodeInvalid, "this update is for other computers (%s; this one is %s)", m.Arch, runtime.GOARCH)
	case m.Release == have.Release && !downgrade:
		return admin.Errorf(admin.CodeExists, "version %s is what this box runs already", m.Version)
	case m.Release < have.Release && !downgrade:
		return admin.Errorf(admin.CodeInvalid, "version %s (%s) is older than what this box runs (%s)", m.Version, m.Date().Format(time.DateOnly), have.Version).
			Then("An older version may have faults that are known by now, and may not read what the newer one stored. --allow-downgrade installs it all the same.")
	case have.Release < m.From:
		return admin.Errorf(admin.CodeInvalid, "this box runs %s, from which version %s can not be reached at once", have.Version, m.Version).
			Then("Install a version between them first: one from %s or later.", time.Unix(m.From, 0).UTC().Format(time.DateOnly))
	}
	return nil
}

// String names it for people.
func (m Manifest) String() string {
	return fmt.Sprintf("version %s of %s", m.Version, m.Date().Format(time.DateOnly))
}
