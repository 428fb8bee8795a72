package store

// ArchivePrefs say what members want to have in their archives; without a record everything is archived. Key: account.
var ArchivePrefs = Table[ArchivePref]{"archiveprefs"}

// ArchiveDefault says whether messages to and from an address that is in no list are archived (XEP-0441).
type ArchiveDefault string

// The defaults.
const (
	ArchiveAlways ArchiveDefault = "always"
	ArchiveNever  ArchiveDefault = "never"
	ArchiveRoster ArchiveDefault = "roster" // those of contacts in the roster
)

// ArchivePref is what one member wants. The lists hold prepared JIDs; a bare one stands for all its resources.
type ArchivePref struct {
	Default ArchiveDefault `json:"default"`
	Always  []string       `json:"always,omitempty"`
	Never   []string       `json:"never,omitempty"`
}
