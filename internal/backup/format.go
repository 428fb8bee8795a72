// Package backup is the one file that holds a whole box: a tar stream, compressed by zstd, encrypted by age. Whoever has the key can open it with
// those three tools.
//
// The stream begins with manifest.json (Manifest) and ends with contents.json (Contents), which has the size and the SHA-256 of every entry: what
// lacks it is cut off. Between them are the parts:
//
//	database/000000…   the records (store.Snapshot.Dump), a chunk each
//	tls/…              certificates, the family's authority, and their keys
//	configuration      the configuration file
//	files/000000…      files that the configuration names, such as certificates (Manifest.Files)
//
// Read takes nothing else, and no more bytes than the manifest announced: a backup may come from anywhere.
package backup

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
)

// Format is the number of the format that this version writes and the largest that it reads.
const Format = 1

const (
	manifestName = "manifest.json"
	contentsName = "contents.json"

	// maxManifest and maxContents bound these two entries, in bytes.
	maxManifest = 1 << 20
	maxContents = 32 << 20
	maxListed   = 4 << 10 // for each entry
	// maxEntries bounds the entries; a database of 100 GiB has 100,000.
	maxEntries = 200_000
	// maxPart bounds what may be read into memory whole, in bytes: certificates, the configuration.
	maxPart = 4 << 20
)

// Names of the parts.
const (
	PartDatabase      = "database"
	PartTLS           = "tls"
	PartConfiguration = "configuration"
	PartFiles         = "files"
)

// Manifest tells what a backup is of, before its contents.
type Manifest struct {
	Format   int       `json:"format"`
	Version  string    `json:"pibox"` // of the program that wrote it
	Schema   int       `json:"schema"`
	Taken    time.Time `json:"taken"` // everything acknowledged before is in it
	Domains  []string  `json:"domains"`
	Accounts int       `json:"accounts"`
	Messages int       `json:"messages"`
	// Size is more than all entries together have, in bytes.
	Size int64 `json:"size"`
	// Files are the paths, on the box it was taken from, of the entries files/000000 and so on.
	Files []string `json:"files,omitempty"`
}

// Contents are the entries in their order, without the manifest and itself.
type Contents struct {
	Entries []Entry `json:"entries"`
}

// Entry is one file of the stream.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hexadecimal
}

var (
	// ErrDamaged: what was read is no backup, or it is damaged or cut off.
	ErrDamaged = errors.New("it is damaged, incomplete, or no backup of pibox")
	// ErrNewer: it was written by a version with a newer format.
	ErrNewer = errors.New("it was written by a newer pibox: install that version")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w (%w)", ErrDamaged, fmt.Errorf(format, args...))
}

// check tells whether the manifest is one that this version can read.
func (m Manifest) check() error {
	switch {
	case m.Format > Format:
		return fmt.Errorf("it has format %d, this pibox knows up to %d: %w", m.Format, Format, ErrNewer)
	case m.Format < 1 || m.Size < 0 || m.Accounts < 0:
		return damaged("its manifest makes no sense")
	}
	return nil
}

// names are those that an entry may have, by its part.
func names() map[string]nameRule {
	return map[string]nameRule{
		PartDatabase:      regexp.MustCompile(`^[0-9]{6}$`),
		PartTLS:           regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`),
		PartConfiguration: regexp.MustCompile(`^$`),
		PartFiles:         regexp.MustCompile(`^[0-9]{6}$`),
	}
}

// splitName cuts an entry's name into its part and the rest.
func splitName(name string) (part, rest string) {
	part, rest, _ = strings.Cut(name, "/")
	return part, rest
}

func joinName(part, rest string) string { return path.Join(part, rest) }
