package store

import (
	"encoding/binary"
	"errors"
	"time"
)

// logAccounts holds, by account, what makes entries of the log invisible to it without touching them, and what the indexes have of its archive.
var logAccounts = Table[logAccount]{"logaccount"}

type logAccount struct {
	gone   uint64 // up to here nothing is the account's: it belonged to an earlier one of that name
	floor  uint64 // up to here nothing is Archived
	purged uint64 // up to here PurgeLog was
	held   uint64 // the first entry before purged that waited only to be delivered; 0: none did
	count  uint64 // of what is Archived after the floors and indexed
	bytes  uint64 // of the stanzas of these

	former []inheritance // whose archive it has, too
	heirs  []string      // who have its archive, too
	lost   bool          // former is that of an earlier account of that name: nothing of it is to be seen
}

func (a *logAccount) fields() [6]*uint64 {
	return [...]*uint64{&a.gone, &a.floor, &a.purged, &a.held, &a.count, &a.bytes}
}

// MarshalBinary writes the numbers as varints.
func (a logAccount) MarshalBinary() (b []byte, err error) {
	for _, f := range a.fields() {
		b = binary.AppendUvarint(b, *f)
	}
	return a.appendKin(b), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (a *logAccount) UnmarshalBinary(b []byte) error {
	var ok bool
	for _, f := range a.fields() {
		if *f, b, ok = cutUvarint(b); !ok {
			return errCount
		}
	}
	return a.cutKin(b)
}

// numbers are the fields.
func (a *logAccount) numbers() (n [6]uint64) {
	for i, f := range a.fields() {
		n[i] = *f
	}
	return n
}

// holder is an account as an owner of entries.
type holder struct {
	account string
	logAccount
	delivered uint64
	changed   bool
}

func readHolder(tx *Tx, account string) *holder {
	h := &holder{account: account, delivered: Delivered(tx, account)}
	h.logAccount, _ = logAccounts.Get(tx, account)
	return h
}

func (h *holder) save(tx *Tx) { logAccounts.Put(tx, h.account, h.logAccount) }

// role is what is left of a stored role; 0 where the account is no owner any more.
func (h *holder) role(seq uint64, r Role) Role {
	if seq <= h.delivered {
		r &^= Owed
	}
	if seq <= h.floor {
		r &^= Archived
	}
	if !r.owns() || seq <= h.gone && r&Inherited == 0 || h.lost && r&Inherited != 0 {
		return 0
	}
	return r
}

// holders are read once for an operation on many entries.
type holders struct {
	tx   *Tx
	m    map[string]*holder
	sent *uint64 // up to here all that was owed to other servers has arrived
}

// pending tells whether an entry with Remote is still owed.
func (hs *holders) pending(seq uint64, at time.Time) bool {
	if hs.sent == nil {
		sent := uint64(1<<64 - 1)
		for _, n := range Progress.All(hs.tx, ProgressSent) {
			sent = min(sent, uint64(n))
		}
		hs.sent = &sent
	}
	return seq > *hs.sent && time.Since(at) <= RemoteMost
}

func (hs *holders) of(account []byte) *holder {
	h := hs.m[string(account)]
	if h == nil {
		h = readHolder(hs.tx, string(account))
		if hs.m == nil {
			hs.m = map[string]*holder{}
		}
		hs.m[h.account] = h
	}
	return h
}

func (hs *holders) save() {
	for _, h := range hs.m {
		if h.changed {
			h.save(hs.tx)
		}
	}
}

// index collects the postings of an entry on its way to the log, and counts it; held is false when nobody has it any more. What was appended just now
// may have no ProgressSent yet.
func (hs *holders) index(seq uint64, raw []byte, ed *edits) (held bool, err error) {
	e, err := readHead(raw)
	if err != nil {
		return false, err
	}
	type own struct {
		h    *holder
		with string
		role Role
	}
	var space [8]own
	owners := space[:0]
	stanza, err := e.walk(func(account, with []byte, role Role) {
		if h := hs.of(account); h.role(seq, role) != 0 {
			owners = append(owners, own{h, string(with), h.role(seq, role)})
		}
	})
	for _, o := range owners {
		ed.set(o.h.account, o.with, posting{seq: seq, role: o.role, size: len(stanza)})
		if o.role&Archived != 0 {
			o.h.count++
			o.h.bytes += uint64(len(stanza))
			o.h.changed = true
		}
	}
	if e.remote {
		ed.set("", "", posting{seq: seq, role: Owed, size: len(stanza)})
	}
	return e.remote || len(owners) > 0, err
}

// Count is a number that is stored in eight bytes.
type Count uint64

var errCount = errors.New("not a number of eight bytes")

// MarshalBinary is big-endian.
func (c Count) MarshalBinary() ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(c)), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (c *Count) UnmarshalBinary(b []byte) error {
	if len(b) != 8 {
		return errCount
	}
	*c = Count(binary.BigEndian.Uint64(b))
	return nil
}
